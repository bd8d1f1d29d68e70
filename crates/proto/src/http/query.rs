use super::answer::Answer;
use super::{MAX_PARAMETERS, target};

/// The parameters of a request target, decoded, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes apart what stands behind the `?`, as HTML forms write it: `+` is a blank there.
    pub(super) fn parse(query: &str) -> Result<Query, Answer> {
        if query.is_empty() {
            return Ok(Query::default());
        }
        // form_urlencoded replaces what is no UTF-8; two topics must not become one in that way.
        if memchr::memchr(b'%', query.as_bytes()).is_some() {
            target::check_encoding(query)?;
        }
        let mut parameters = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if parameters.len() == MAX_PARAMETERS {
                let what = format!("the query has more than {MAX_PARAMETERS} parameters");
                return Err(Answer::bad_request(&what));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Query(parameters))
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The value of a parameter that may be given once; the answer if it is given more often.
    pub fn only(&self, name: &str) -> Result<Option<&str>, Answer> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Answer::bad_request(&format!("the parameter {name} is given twice"))),
            (value, None) => Ok(value),
        }
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }
}
