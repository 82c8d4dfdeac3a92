use base64::{Engine as _, engine::general_purpose};

use super::*;
use crate::secret::known::MAX_KNOWN;

const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLWFsaWNl";
const OPAQUE: &str = "Zx81-spectrum_plus~48k/ram+rom==";
const ODD: &str = "two words, \"quotes\" \\ and ünïcode";

fn knowing(secrets: &[&str]) -> Scrubber {
    let scrubber = Scrubber::new();
    secrets.iter().for_each(|secret| scrubber.note(secret));
    scrubber
}

#[test]
fn a_known_secret_is_removed_from_any_surroundings() {
    let scrubber = knowing(&[JWT, OPAQUE, ODD, "short", "%41%42"]);
    for around in [
        "the token is {}.",
        "`{}`",
        "Authorization: Bearer {}\n",
        "https://x.example/?access_token={}&a=b",
        "path/{}/tail",
        "glued{}together",
        "ünïcode{}🙂",
        "{} {}",
        "{}",
    ] {
        for token in [JWT, OPAQUE, ODD, "short", "%41%42"] {
            let expected = around.replace("{}", REPLACEMENT);
            assert_eq!(scrubber.clean(&around.replace("{}", token)), expected, "{token}");
        }
    }
}

#[test]
fn a_secret_that_is_noted_now_and_then_is_not_forgotten() {
    let scrubber = knowing(&[OPAQUE]);
    for number in 0..2 * MAX_KNOWN {
        scrubber.note(&format!("another secret, number {number}"));
        if number % 200 == 0 {
            scrubber.note(OPAQUE);
        }
    }
    assert_eq!(scrubber.clean(OPAQUE), REPLACEMENT);
    assert_ne!(scrubber.clean("another secret, number 7"), REPLACEMENT);
}

#[test]
fn a_known_secret_is_removed_in_the_forms_of_urls_json_markdown_and_base64() {
    for token in [JWT, OPAQUE, ODD] {
        let scrubber = knowing(&[token]);
        let encoded =
            percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC).to_string();
        let json = serde_json::to_string(token).expect("JSON");
        let each = |change: fn(char) -> String| token.chars().map(change).collect::<String>();
        let forms = [
            encoded.to_lowercase().replacen("%2d", "-", 1).replace("zx81", "Zx81"),
            encoded,
            json.trim_matches('"').to_owned(),
            each(|c| if c.is_ascii() { format!("\\u{:04x}", u32::from(c)) } else { c.into() }),
            each(|c| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.into() }),
            each(|c| format!("{c}\u{200b}")),
        ];
        let is_lower_case = token.to_lowercase() == token;
        for form in forms.iter().skip(usize::from(!is_lower_case)) {
            assert_eq!(scrubber.clean(&format!("<{form}>")), "<[secret removed]>", "{form}");
        }
        for before in ["", "u", "us", "user:"] {
            let pair = format!("{before}{token}");
            for engine in [general_purpose::STANDARD, general_purpose::URL_SAFE] {
                let clean = scrubber.clean(&format!("Basic {}", engine.encode(&pair)));
                assert_eq!(clean.trim_end_matches('='), "Basic [secret removed]", "{pair}");
            }
        }
    }
}

#[test]
fn a_text_without_known_secrets_stays_unchanged() {
    let scrubber = knowing(&[JWT, OPAQUE, ODD]);
    for text in [
        "See https://example.org/a/b/c.d/e?f=g and sha256=0123456789abcdef0123456789abcdef — ünïcode 🙂",
        "%",
        "100 %",
        "\\",
        "a\\",
        "\\u00",
        "%4",
        "two words, \"quotes\"",
        "C:\\users\\x41",
        "",
    ] {
        assert_eq!(scrubber.clean(text), text);
    }
    assert_eq!(scrubber.clean(&JWT[..60]), JWT[..60]);
}

#[test]
fn a_text_of_three_characters_is_no_secret_and_one_of_four_is() {
    let scrubber = knowing(&["abc", "x", "at-1"]);
    assert_eq!(scrubber.clean("abc x at-1 (at-1)"), "abc x [secret removed] ([secret removed])");
}

#[test]
fn overlapping_secrets_leave_no_rest() {
    let scrubber = knowing(&["abcdef", "defghi", "abcdefgh"]);
    assert_eq!(scrubber.clean("-abcdefghi-"), "-[secret removed]-");
}

#[test]
fn a_secret_in_pieces_never_shows_a_piece() {
    for (secret, piece_of_it) in [(JWT, "eyJ"), (ODD, "two"), (ODD, "words"), ("a b c d e f", "a b")] {
        for rest in [" after", "after", "", " three more"] {
            let text = format!("before {secret}{rest}");
            let characters: Vec<char> = text.chars().collect();
            for size in 1..20 {
                let mut stream = Stream::new(knowing(&[secret]));
                let mut shown = String::new();
                for piece in characters.chunks(size) {
                    shown.push_str(&stream.push(&piece.iter().collect::<String>()));
                    assert!(!shown.replace(rest, "").contains(piece_of_it), "{shown}");
                }
                shown.push_str(&stream.finish());
                assert_eq!(shown, format!("before [secret removed]{rest}"));
            }
        }
    }
}

#[test]
fn a_secret_at_the_end_of_an_endless_word_is_removed() {
    let mut stream = Stream::new(knowing(&[JWT]));
    let mut shown = String::new();
    for _ in 0..30 {
        shown.push_str(&stream.push(&"a/".repeat(MAX_HELD / 20)));
    }
    assert!(shown.len() > MAX_HELD, "it is not held back for ever");
    for piece in JWT.as_bytes().chunks(5) {
        shown.push_str(&stream.push(std::str::from_utf8(piece).expect("ASCII")));
    }
    shown.push_str(&stream.finish());
    assert!(shown.ends_with("a/[secret removed]") && !shown.contains("eyJ"));
}

#[test]
fn the_oldest_secrets_are_forgotten_and_pinned_ones_are_not() {
    let scrubber = Scrubber::new();
    let token = |n: usize| format!("token-{n:06}-");
    let pin = scrubber.pin("the-capability");
    for n in 0..=MAX_KNOWN {
        scrubber.note(&token(n));
        scrubber.note(&token(1));
    }
    assert_eq!(scrubber.read().len(), MAX_KNOWN + 1);
    assert_eq!(scrubber.clean(&token(0)), token(0), "the oldest");
    assert_eq!(scrubber.clean(&token(1)), REPLACEMENT, "it was seen again");
    assert_eq!(scrubber.clean(&token(MAX_KNOWN)), REPLACEMENT);
    assert_eq!(scrubber.clean("the-capability"), REPLACEMENT);
    drop(pin);
    assert_eq!(scrubber.clean("the-capability"), "the-capability");
}

#[test]
fn two_pins_of_a_secret_and_a_note_hold_it_independently() {
    let scrubber = Scrubber::new();
    let (one, two) = (scrubber.pin("s3cr3t"), scrubber.pin("s3cr3t"));
    drop(one);
    assert_eq!(scrubber.clean("s3cr3t"), REPLACEMENT);
    scrubber.note("s3cr3t");
    drop(two);
    assert_eq!(scrubber.clean("s3cr3t"), REPLACEMENT);
    assert_eq!(scrubber.pin("").secret, None, "an empty text is no secret");
}
