//! Hexadecimal digits, as people and files have them. Not for keys: what is returned is not wiped.

/// The bytes in lower-case digits, two a byte.
pub fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    base16ct::lower::encode_string(bytes.as_ref())
}

/// Exactly `2 * N` digits of either case; `None` for anything else: a sign, a space, a prefix, a digit more or less.
pub fn from_hexadecimal<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let length = base16ct::mixed::decode(digits, &mut bytes).ok()?.len();
    (length == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_written_in_lower_case_and_read_in_either() {
        assert_eq!(hexadecimal([0x00, 0x1f, 0xAB]), "001fab");
        assert_eq!(hexadecimal([]), "");
        for digits in ["001fab", "001FAB", "001fAb"] {
            assert_eq!(from_hexadecimal(digits), Some([0x00, 0x1f, 0xab]), "{digits}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for wrong in ["", "001fa", "001fab0", "001fab00", "001f", "+f1fab", "0x1fab", " 01fab", "001fag", "001fä"] {
            assert_eq!(from_hexadecimal::<3>(wrong), None, "{wrong:?}");
        }
    }
}
