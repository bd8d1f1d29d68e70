use super::Violation;

/// Checks UTF-8 as it arrives: an invalid byte is found at once, not at the end of the message.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The bytes of a character whose end has not arrived.
    pending: [u8; 4],
    pending_len: u8,
}

impl Utf8 {
    /// Checks the next bytes of the text.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while self.pending_len > 0 {
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.pending[usize::from(self.pending_len)] = *first;
            self.pending_len += 1;
            match std::str::from_utf8(&self.pending[..usize::from(self.pending_len)]) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_some() => return Err(Violation::Utf8),
                Err(_) => {}
            }
        }
        if let Err(error) = std::str::from_utf8(bytes) {
            if error.error_len().is_some() {
                return Err(Violation::Utf8);
            }
            // Only the start of one character is left: three bytes at the most.
            let rest = &bytes[error.valid_up_to()..];
            self.pending[..rest.len()].copy_from_slice(rest);
            self.pending_len = rest.len() as u8;
        }
        Ok(())
    }

    /// Checks that the text does not end within a character.
    pub(super) fn finish(&self) -> Result<(), Violation> {
        if self.pending_len == 0 { Ok(()) } else { Err(Violation::Utf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_may_be_cut_anywhere() {
        let text = "κόσμε – 𝄞 \u{10FFFF}".as_bytes();
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let mut utf8 = Utf8::default();
                utf8.check(&text[..cut]).unwrap();
                utf8.check(&text[cut..second]).unwrap();
                utf8.check(&text[second..]).unwrap();
                utf8.finish().unwrap();
            }
        }
    }

    #[test]
    fn the_first_byte_that_cannot_be_right_is_found_at_once() {
        // A surrogate: the second byte already excludes every valid character.
        let mut utf8 = Utf8::default();
        utf8.check(&[0xED]).unwrap();
        assert_eq!(utf8.check(&[0xA0]), Err(Violation::Utf8));
        // Above U+10FFFF.
        let mut utf8 = Utf8::default();
        utf8.check(&[0xF4]).unwrap();
        assert_eq!(utf8.check(&[0x90]), Err(Violation::Utf8));
        let mut utf8 = Utf8::default();
        utf8.check(&[0xE2, 0x82]).unwrap();
        assert_eq!(utf8.finish(), Err(Violation::Utf8));
    }
}
