//! The secret that lets its bearer cancel runs and restart worker processes.

use std::fmt;
use std::io;
use subtle::ConstantTimeEq;

/// 128 bits of the system's randomness, as 32 digits. What shows it has to say so: it is not in `Debug`.
pub(super) struct Token(String);

impl Token {
    /// # Errors
    /// If the system gives no randomness.
    pub(super) fn new() -> io::Result<Token> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes as long for one wrong text as for another of the same length.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_is_itself_alone_and_is_not_shown() {
        let (token, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_eq!(token.as_str().len(), 32);
        assert!(token.is(token.as_str()) && !token.is(other.as_str()));
        assert!(!token.is("") && !token.is(&token.as_str()[1..]) && !token.is(&format!("{}0", token.as_str())));
        assert_eq!(format!("{token:?}"), "Token");
    }
}
