//! A participant number on the command line, or from standard input so that no process list shows it.

use std::convert::Infallible;
use std::fmt;
use std::io::{BufRead, IsTerminal, Read};
use std::str::FromStr;

use kura_client::ParticipantNumber;

use super::exit::Failure;

/// Longest line taken for a number, in bytes.
const LINE_BYTES_MAX: u64 = 64;

/// What was given for a number. Anything parses, so that the parser never repeats it in a message.
#[derive(Clone)]
pub struct NumberArgument(String);

impl FromStr for NumberArgument {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for NumberArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberArgument(…)")
    }
}

impl NumberArgument {
    /// The number; `-` reads it from standard input, where nothing but blanks may follow it: a second number would
    /// be passed over.
    pub fn read(&self) -> Result<ParticipantNumber, Failure> {
        self.read_as("NUMBER")
    }

    /// The same, of an argument with another name, by which errors tell it.
    pub fn read_as(&self, argument: &str) -> Result<ParticipantNumber, Failure> {
        let number = self.read_before_more(argument)?;
        let input = std::io::stdin();
        // People end a line there, not the input.
        if self.is_standard_input() && !input.is_terminal() {
            nothing_follows(&mut input.lock()).map_err(|failure| failure.of(argument))?;
        }
        Ok(number)
    }

    /// The number; `-` reads one line of standard input, of which the command reads on.
    pub fn read_before_more(&self, argument: &str) -> Result<ParticipantNumber, Failure> {
        self.read_from(&mut std::io::stdin().lock()).map_err(|failure| failure.of(argument))
    }

    /// Whether standard input is asked for it.
    pub fn is_standard_input(&self) -> bool {
        self.0 == "-"
    }

    fn read_from(&self, input: &mut impl BufRead) -> Result<ParticipantNumber, Failure> {
        if !self.is_standard_input() {
            return self.0.parse().map_err(Failure::usage);
        }
        let mut line = String::new();
        let read = input.take(LINE_BYTES_MAX).read_line(&mut line);
        read.map_err(|error| Failure::usage(format!("no participant number on standard input: {error}")))?;
        line.trim().parse().map_err(Failure::usage)
    }
}

fn nothing_follows(input: &mut impl BufRead) -> Result<(), Failure> {
    loop {
        let chunk = input.fill_buf().map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        if !chunk.trim_ascii().is_empty() {
            return Err(Failure::usage("more than one number's line comes from standard input; nothing was done")
                .next("run the command once for each number"));
        }
        let length = chunk.len();
        if length == 0 {
            return Ok(());
        }
        input.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn read(argument: &str, input: &str) -> Result<ParticipantNumber, Failure> {
        argument.parse::<NumberArgument>().unwrap().read_from(&mut input.as_bytes())
    }

    #[test]
    fn a_number_comes_from_the_argument_or_from_standard_input() {
        assert_eq!(read("0043001234567890", "").unwrap().reveal(), "0043001234567890");
        assert_eq!(read("-", "0043001234567890\nbody follows").unwrap().reveal(), "0043001234567890");
        assert_eq!(read("-", " 0043001234567890\r\n").unwrap().reveal(), "0043001234567890");
    }

    #[test]
    fn what_follows_a_number_is_refused_and_not_repeated() {
        for blank in ["", "\n", " \r\n\t\n"] {
            nothing_follows(&mut blank.as_bytes()).unwrap();
        }
        let late = format!("{}3434343434343434\n", "\n".repeat(100_000));
        for more in ["3434343434343434\n", "\n\n3434343434343434", late.as_str()] {
            let failure = nothing_follows(&mut std::io::BufReader::new(more.as_bytes())).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!failure.to_string().contains("3434"), "{failure}");
        }
    }

    #[test]
    fn a_wrong_number_is_a_usage_error_and_not_repeated() {
        let long = "9".repeat(10_000);
        for (argument, input) in [("004300123456789", ""), ("-", ""), ("-", "0043\n"), ("-", long.as_str())] {
            let failure = read(argument, input).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!failure.to_string().contains("0043") && !failure.to_string().contains("999"), "{failure}");
        }
        assert!(!format!("{:?}", "0043001234567890".parse::<NumberArgument>()).contains("0043"));
    }
}
