//! What several subcommands parse: sizes, durations, model names.

use std::ffi::OsStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use switchboard_models::{MODELS, Model};

use crate::Failure;

/// A size in bytes: `64`, `64KiB`, `16MiB`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|_| "a size is a number of bytes, or like 64KiB or 16MiB")?;
    usize::try_from(size.as_u64()).map_err(|_| "larger than this machine can address".into())
}

/// A path that begins and ends with a slash; the last one may be left out.
pub(crate) fn path(text: &str) -> Result<String, String> {
    let is_path =
        text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte));
    match text.trim_end_matches('/') {
        path if is_path && !path.is_empty() => Ok(format!("{path}/")),
        _ => Err("must be like /socket.io/, and not / itself".into()),
    }
}

/// A duration: `500ms`, `10s`, `2m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|_| "a duration is like 500ms, 10s or 2m".into())
}

/// Microseconds: of simulated work per message, or before a loop blocks.
pub(crate) fn microseconds(text: &str) -> Result<f64, String> {
    let microseconds = text.parse().ok().filter(|us| (0.0..=1e6).contains(us));
    microseconds.ok_or_else(|| "must be a number of microseconds from 0 to 1000000 (a second)".into())
}

/// A duration that is not zero.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".into()),
        time => Ok(time),
    }
}

/// A time, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeOrOff(pub(crate) Option<Duration>);

/// The period of a server's timer, or `off`.
pub(crate) fn time_or_off(text: &str) -> Result<TimeOrOff, String> {
    match text {
        "off" => Ok(TimeOrOff(None)),
        text => match timer(text) {
            Ok(time) => Ok(TimeOrOff(Some(time))),
            Err(error) => Err(format!("{error}, or off")),
        },
    }
}

/// Shortest timer of a server: with a shorter one the server would do nothing else.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// The period or the timeout of a server's timer.
pub(crate) fn timer(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < SHORTEST_TIMER => Err(format!("must be at least {SHORTEST_TIMER:?}")),
        time => Ok(time),
    }
}

/// Numbers of cores, in the order in which workers are bound to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Vec<usize>);

/// Parses one element of a list with commas. Ignores blanks around the element; an empty element is an error. Needs `value_delimiter = ','`.
pub(crate) fn element<P: TypedValueParser>(parser: P) -> Element<P> {
    Element(parser)
}

/// Made by [`element`].
#[derive(Debug, Clone)]
pub(crate) struct Element<P>(P);

impl<P: TypedValueParser> TypedValueParser for Element<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        match value.to_str().map(str::trim) {
            Some("") => {
                let name = argument.map(ToString::to_string).unwrap_or_default();
                let text = format!(
                    "{name}: an empty element; separate elements by commas, and put a list with blanks in quotes: \"epoll, poll\"\n"
                );
                Err(clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command))
            }
            Some(trimmed) => self.0.parse_ref(command, argument, OsStr::new(trimmed)),
            None => self.0.parse_ref(command, argument, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

/// Cores: `0`, `0,2`, `0-3,8`.
pub(crate) fn cpus(text: &str) -> Result<Cpus, String> {
    let range = |part: &str| -> Option<Vec<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        (first <= last && last < MOST_CPUS).then(|| (first..=last).collect())
    };
    let ranges: Option<Vec<Vec<usize>>> = text.split(',').map(range).collect();
    ranges.map(|ranges| Cpus(ranges.concat())).ok_or_else(|| "cores are numbers, like 0 or 0,2 or 0-3".into())
}

/// More than the kernel can be built for (CONFIG_NR_CPUS).
const MOST_CPUS: usize = 8192;

/// The model of that name, or the list of them all and the one that is most like it.
pub(crate) fn model(name: &str) -> Result<&'static Model, Failure> {
    switchboard_models::find(name).ok_or_else(|| {
        let visible: Vec<&str> =
            MODELS.iter().filter(|model| !model.hidden).map(|model| model.name).collect();
        let likeness = |candidate: &&&str| (strsim::jaro_winkler(name, candidate) * 1e6) as u32;
        let nearest = visible.iter().max_by_key(likeness).filter(|nearest| likeness(nearest) > 700_000);
        let hint = nearest.map(|nearest| format!(", did you mean `{nearest}`?")).unwrap_or_default();
        Failure::new(2, format!("unknown model `{name}`{hint} Models: {}", visible.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_people_write_them() {
        assert_eq!(bytes("64"), Ok(64));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert!(bytes("many").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("-1").is_err());
        assert!(duration("soon").is_err());
        assert!(some_time("0s").is_err());
        assert_eq!(time_or_off("off"), Ok(TimeOrOff(None)));
        assert_eq!(time_or_off("2m"), Ok(TimeOrOff(Some(Duration::from_secs(120)))));
        for absurd in ["0", "on", "-1s", ""] {
            assert!(time_or_off(absurd).unwrap_err().ends_with("or off"), "{absurd}");
        }
        assert_eq!(timer("1ms"), Ok(Duration::from_millis(1)));
        for absurd in ["1ns", "999us", "0", "-1"] {
            assert!(timer(absurd).is_err(), "{absurd}");
        }
        assert_eq!(timer("1ns").unwrap_err(), "must be at least 1ms");
        assert_eq!(microseconds("0.25"), Ok(0.25));
        assert_eq!(cpus("0-2,7"), Ok(Cpus(vec![0, 1, 2, 7])));
        for absurd in ["", "a", "3-1", "1,", "-1", "99999"] {
            assert!(cpus(absurd).unwrap_err().contains("0-3"), "{absurd}");
        }
        for absurd in ["-1", "NaN", "inf", "1e7", "much"] {
            assert!(microseconds(absurd).unwrap_err().contains("0 to 1000000"), "{absurd}");
        }
    }

    #[test]
    fn a_slip_in_a_model_name_is_answered_with_the_nearest() {
        let failure = model("epol").err().unwrap();
        assert_eq!(failure.status, 2);
        assert!(failure.message.contains("did you mean `epoll`?"), "{}", failure.message);
        assert!(failure.message.contains("threads-direct"), "{}", failure.message);
    }
}
