//! What no client's JSON may hold.
//!
//! `serde_json` has a name of its own for a value that is kept as text: an object whose first key is that name is read as the text
//! that it holds, with a new limit of depth. In foreign JSON it would let one request nest without end and overflow the stack, and
//! would change what was sent. So it is refused before anything is parsed, however it is spelled.

use crate::ApiError;

/// How such names begin.
const PRIVATE: &str = "$serde_json::private::";

/// Refuses JSON with a key that has a meaning of its own to the parser. (What isn't JSON is left to the parser.)
pub(crate) fn check(json: &[u8]) -> Result<(), ApiError> {
    let mut at = 0;
    while let Some(begin) = json[at..].iter().position(|byte| *byte == b'"').map(|found| at + found) {
        let Some(end) = end_of_string(json, begin + 1) else { return Ok(()) };
        at = end + 1;
        let is_key = json[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        if is_key && is_private(&json[begin..=end]) {
            return Err(ApiError::bad_json("a key of this name can't be taken"));
        }
    }
    Ok(())
}

/// Where the quote stands that ends the string which begins at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match json.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether a string, with its quotes, is such a name.
fn is_private(quoted: &[u8]) -> bool {
    if !quoted.contains(&b'\\') {
        return quoted[1..].starts_with(PRIVATE.as_bytes());
    }
    serde_json::from_slice::<String>(quoted).is_ok_and(|key| key.starts_with(PRIVATE))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RAW: &str = "$serde_json::private::RawValue";

    #[test]
    fn the_parsers_own_names_are_refused_as_keys_however_they_are_spelled() {
        let escaped: String = RAW.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        for key in [RAW, &escaped, "\\u0024serde_json::private::RawValue", "$serde_json::private::Number"] {
            for json in [
                format!(r#"{{"{key}":"1"}}"#),
                format!(r#"{{"a":[1,{{"b":"\"","c":{{"{key}" : "[1]"}}}}]}}"#),
                format!(r#"{{"\\":1,"{key}"{}:2}}"#, "\n\t "),
            ] {
                assert!(check(json.as_bytes()).is_err(), "{json}");
            }
        }
    }

    #[test]
    fn what_only_speaks_of_them_is_taken() {
        let about = json!({"body": RAW, "list": [RAW, "a\"b\\"], "$serde_json": {"private": "::"}, "": null});
        assert!(check(about.to_string().as_bytes()).is_ok());
        for broken in ["", "\"", "{\"a", "{\"a\\", "{\"a\\\"", "[[[[", "\u{fffd}"] {
            assert!(check(broken.as_bytes()).is_ok(), "{broken}");
        }
    }

    #[test]
    fn the_parser_still_gives_them_a_meaning() {
        // When this fails, the check has become needless.
        let read: Value = serde_json::from_str(&format!(r#"{{"{RAW}":"[1,2]"}}"#)).unwrap();
        assert_eq!(read, json!([1, 2]));
    }
}
