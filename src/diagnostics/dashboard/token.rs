//! The secret that authorizes requests to cancel runs and to restart worker processes.

use std::fmt;
use std::io;
use subtle::ConstantTimeEq;

/// 128 random bits from the system, as 32 hexadecimal digits. `Debug` does not show them.
pub(super) struct Token(String);

impl Token {
    /// # Errors
    /// If the system has no random bytes.
    pub(super) fn new() -> io::Result<Token> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the length of `given` alone.
    pub(super) fn matches(&self, given: &str) -> bool {
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
    fn a_token_matches_only_itself_and_is_not_shown() {
        let (token, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_eq!(token.as_str().len(), 32);
        assert!(token.matches(token.as_str()) && !token.matches(other.as_str()));
        assert!(
            !token.matches("")
                && !token.matches(&token.as_str()[1..])
                && !token.matches(&format!("{}0", token.as_str()))
        );
        assert_eq!(format!("{token:?}"), "Token");
    }
}
