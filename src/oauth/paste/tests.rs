use super::*;

mod refused;

/// A state as [`super::super::Provider::begin`] makes it.
const STATE: &str = "Yq3-kXn0_4dF7hJ2mP9sT1vW5zA8bC6eG0iK3lN-oQ2";
/// A state of another sign-in of this user.
const SECOND: &str = "s1X-9cVb2Nn4MmQqWw3EeRr5Tt6Yy7Uu8Ii9Oo0Pp_a";
/// A state of no sign-in of this user.
const FOREIGN: &str = "F0r3ign-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const CODE: &str = "ac_1-2.3Xy";

/// Reads a paste of a user with two sign-ins in progress. `STATE` is the first one's state.
fn read(text: &str) -> Result<AuthorizationResponse, PasteError> {
    let own = [&State::new(STATE), &State::new(SECOND)];
    Pasted::parse(text)?.response(&own)
}

/// Asserts that the paste is the response to the first sign-in, and returns its code.
#[track_caller]
fn code(text: &str) -> String {
    let response = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(response.sign_in, Some(0), "{text:?}");
    response.code.expose().to_owned()
}

fn address() -> String {
    format!("http://127.0.0.1:1/callback?code={CODE}&scope=openid&state={STATE}")
}

/// The address with the code at the end, where the text after it has no separator.
fn code_last() -> String {
    format!("http://127.0.0.1:1/callback?state={STATE}&scope=openid&code={CODE}")
}

#[test]
fn the_border_of_a_box_is_no_part_of_a_code() {
    for border in ["│", "┃", "║", "▌"] {
        let text = format!("code={CODE}{border} &state={STATE}");
        assert_eq!(code(&text), CODE, "{text:?}");
        let text = format!("http://127.0.0.1:1/callback?state={STATE}&code={CODE}{border} Signed in");
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

#[test]
fn the_code_with_its_state_and_the_whole_address_are_accepted() {
    for text in [
        format!("{CODE}#{STATE}"),
        format!("{CODE}\n#{STATE}"),
        format!("{CODE} {STATE}"),
        format!("{CODE}\n{STATE}"),
        format!("{STATE}\n{CODE}\n"),
        format!("{CODE}&state={STATE}"),
        format!("my code is {CODE}#{STATE}"),
        address(),
        code_last(),
        address().replace('?', "#"),
        format!("{}#_=_", address()),
        format!("localhost:1455/auth/callback?code={CODE}&state={STATE}"),
        format!("/auth/callback?code={CODE}&state={STATE}"),
        format!("?code={CODE}&state={STATE}"),
        format!("code={CODE}&state={STATE}"),
        format!("state={STATE}&code={CODE}"),
        format!("code={CODE}#{STATE}"),
        format!("https://app.example/?code={CODE}%23{STATE}"),
        format!("code={CODE};state={STATE}"),
        format!("code: {CODE}, state: {STATE}"),
        format!("Code:\n  {CODE}\nState:\n  {STATE}\n"),
        format!("GET /callback?state={STATE}&code={CODE} HTTP/1.1\nHost: 127.0.0.1:1\n"),
    ] {
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

#[test]
fn json_with_code_and_state_is_accepted() {
    for text in [
        format!(r#"{{"code":"{CODE}","state":"{STATE}"}}"#),
        format!(r#"{{ "state" : "{STATE}", "scope": "a b", "code" : "{CODE}" }}"#),
        format!("{{\n  \"code\": \"{CODE}\",\n  \"state\": \"{STATE}\"\n}}"),
        format!(r#"{{\"code\":\"{CODE}\",\"state\":\"{STATE}\"}}"#),
        format!("{{'code': '{CODE}', 'state': '{STATE}'}}"),
        format!("{{code: '{CODE}', state: '{STATE}'}}"),
        format!(r#"{{"url":"http:\/\/127.0.0.1:1\/callback?code={CODE}\u0026state\u003d{STATE}"}}"#),
        format!(r#"{{"error":{{"code":"none"}}}} {{"code":"{CODE}","state":"{STATE}"}}"#),
    ] {
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

/// Text that programs and users put around an address.
const AROUND: &[(&str, &str)] = &[
    ("<", ">"),
    ("`", "`"),
    ("```\n", "\n```"),
    ("```text\n", "\n```"),
    ("```", "```"),
    ("\"", "\""),
    ("'", "'"),
    ("“", "”"),
    ("„", "“"),
    ("«", "»"),
    ("‘", "’"),
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("||", "||"),
    ("|| <", "> ||"),
    ("**", "**"),
    ("__", "__"),
    ("_", "_"),
    ("~~", "~~"),
    ("***", "***"),
    ("**<", ">**"),
    ("[the page](", ")"),
    ("[the page](<", "> \"title\")"),
    ("||[the page](", ")||"),
    ("<", "|the page>"),
    ("[the page|", "]"),
    ("[url=", "]the page[/url]"),
    ("<a href=\"", "\">the page</a>"),
    ("\u{feff} ", "\u{200b}\u{a0}"),
    ("「", "」"),
    ("『", "』"),
    ("【", "】"),
    ("《", "》"),
    ("（", "）"),
    ("地址：", "。"),
    ("", "，谢谢"),
    ("", "、"),
    ("", "！"),
    ("", "？"),
    ("", "．"),
    ("", "…"),
    ("", "."),
    ("", ","),
    ("", ";"),
    ("", ":"),
    ("", "!"),
    ("", "?"),
    ("", ").\n"),
    ("", "..."),
    ("Here it is: ", " - thanks!"),
    ("Here it is:\n\n", "\n\nthanks"),
    ("It ended on ", ", which did not load."),
    ("> ", "\n> it says"),
    ("- ", "\n- done"),
    ("\u{1b}[200~", "\u{1b}[201~"),
    ("\u{1b}[200~", "\n\u{1b}[201~\n"),
    ("^[[200~", "^[[201~"),
    ("[200~", "[201~"),
    ("0~", "1~"),
    ("\u{1b}[4m\u{1b}[34m", "\u{1b}[0m"),
    ("\u{1b}]8;;", "\u{1b}\\the page\u{1b}]8;;\u{1b}\\"),
    ("curl '", "' -H 'Accept: text/html'"),
    ("user@host:~$ ", "\nuser@host:~$ "),
    ("Error: 404, Code: 404 at ", " (state: failed)"),
    ("Location: ", "\r\nContent-Length: 0\r\n"),
];

#[test]
fn text_around_an_address_does_no_harm() {
    for (before, after) in AROUND {
        for address in [address(), code_last()] {
            let text = format!("{before}{address}{after}");
            assert_eq!(code(&text), CODE, "{text:?}");
        }
    }
}

#[test]
fn text_around_a_code_with_its_state_does_no_harm() {
    for (before, after) in AROUND.iter().filter(|(before, _)| !["[the page|", "[url="].contains(before)) {
        let text = format!("{before}{CODE}#{STATE}{after}");
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

#[test]
fn line_breaks_and_blanks_anywhere_in_a_paste_are_removed() {
    let address = address();
    for at in 1..address.len() {
        for cut in ["\n", "\r\n", " ", "\n    ", "\n> ", " │\n│ ", "\\\n", "\u{200b}"] {
            let text = format!("{}{cut}{}", &address[..at], &address[at..]);
            assert_eq!(code(&text), CODE, "{text:?}");
        }
    }
}

#[test]
fn an_address_in_lines_of_any_width_is_joined() {
    let long = format!("{CODE}.{}", "0aZ9-_".repeat(100));
    for address in [address(), code_last()] {
        let address = address.replace(CODE, &long);
        for width in [40, 79, 80, 100, 132] {
            let lines: Vec<&str> = address
                .as_bytes()
                .chunks(width)
                .map(|line| std::str::from_utf8(line).expect("it is ASCII"))
                .collect();
            for cut in ["\n", "\r\n", "\n  ", "\n\t", "\n> ", "\\\n", " │\n│ ", " "] {
                let text = format!("Here:\n{}\nThanks a lot.", lines.join(cut));
                assert_eq!(code(&text), long, "{text:?}");
            }
        }
    }
}

#[test]
fn shell_and_html_escapes_are_undone() {
    for address in [address(), code_last()] {
        for text in [
            address.replace('?', "\\?").replace('&', "\\&").replace('=', "\\="),
            address.replace('&', "&amp;"),
            address.replace('&', "&amp;amp;"),
            address.replace('&', "&#38;").replace('=', "&#x3D;"),
            address.replace('&', "\\u0026"),
            address.replace('&', "\\x26"),
            address.replace('&', "\"&\""),
            address.replace('&', "^&"),
            address.replace('?', "？").replace('&', "＆").replace('=', "＝"),
            address.replace('=', "=3D"),
            address.replace('=', "=3D").replace("scope", "sc=\nope"),
        ] {
            assert_eq!(code(&text), CODE, "{text:?}");
        }
    }
}

#[test]
fn a_code_is_percent_decoded_as_often_as_it_was_encoded() {
    let encode = |text: &str| -> String {
        let keep = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    for plain in ["4/0AX4XfWh+x==", "a/b", "a+b", "a=b", "a%2Fb/c", "1//0g+%2B", "a:b@c", "M.C5_B!*$x"] {
        let once = encode(plain);
        let address = |code: &str| format!("http://127.0.0.1:1/callback?code={code}&state={STATE}");
        let last = |code: &str| format!("http://127.0.0.1:1/callback?state={STATE}&code={code}");
        for text in [
            address(&once),
            last(&once),
            format!("https://out.example/?url={}&data=x", encode(&address(&once))),
            format!("https://out.example/?url={}", encode(&encode(&last(&once)))),
            encode(&address(&once)),
        ] {
            assert_eq!(code(&text), plain, "{text:?}");
        }
        if !plain.contains('%') {
            for text in [address(&encode(&once)), last(&encode(&once)), address(plain), last(plain)] {
                assert_eq!(code(&text), plain, "{text:?}");
            }
            assert_eq!(code(&format!("{plain}#{STATE}")), plain);
        }
    }
    assert_eq!(code(&address().replace(CODE, "a%2Fb/c%2B+")), "a%2Fb/c%2B+", "it was not encoded");
    assert_eq!(code(&address().replace(CODE, "4%2F0%2525")), "4/0%25");
}

#[test]
fn parameters_in_any_order_and_number_are_accepted() {
    let address = address();
    for text in [
        format!("{address}&code={CODE}"),
        format!("{address}&state={STATE}&code={CODE}"),
        format!("http://127.0.0.1:1/callback?code=&state=&code={CODE}&state={STATE}"),
        format!("{address}{address}"),
        format!("{address} {address}"),
        format!("{address}\n{}", code_last()),
        format!("http://127.0.0.1:1/callback?code={CODE}... ({address})"),
        format!(
            "http://127.0.0.1:1/callback?session_state=x&state={STATE}&iss=https%3A%2F%2Fid.example&code={CODE}"
        ),
        format!(
            "http://127.0.0.1:1/callback?code={CODE}&session_state=x&state={STATE}&user_code=y&error_code=0"
        ),
    ] {
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

#[test]
fn the_state_picks_the_sign_in() {
    let second = address().replace(STATE, SECOND);
    assert_eq!(read(&second).expect("it is ours").sign_in, Some(1));
    assert_eq!(read(&format!("{CODE}#{SECOND}.")).expect("it is ours").sign_in, Some(1));
    let both = format!("{}\n{}", address(), second.replace(CODE, "another-c0de"));
    assert_eq!(read(&both).expect_err("two answers"), PasteError::SeveralCodes);
}

#[test]
fn a_short_state_of_another_program_counts_only_as_a_whole() {
    let read = |text: &str| Pasted::parse(text)?.response(&[&State::new("state-7")]);
    for text in ["c-1#state-7", "c-1#state-7.", "?code=c-1&state=state-7", "?state=state-7&code=c-1"] {
        assert_eq!(read(text).expect("it is ours").sign_in, Some(0), "{text:?}");
    }
    for text in ["c-1#state-71", "c-1#a-state-7", "?code=c-1&state=state-71", "c-1&state=xstate-7"] {
        assert_eq!(read(text).expect_err(text), PasteError::StateMismatch, "{text:?}");
    }
}

#[test]
fn a_code_beside_our_state_is_taken_although_another_answer_stands_in_the_text() {
    let foreign = address().replace(STATE, FOREIGN).replace(CODE, "f0reign-code");
    for text in [
        format!("{foreign}\n{}", address()),
        format!("{}\n{foreign}", address()),
        format!("{foreign}{}", address()),
        format!(
            "https://out.example/?state={FOREIGN}&u=http%3A%2F%2F127.0.0.1%3A1%2Fcb%3Fcode%3D{CODE}%26state%3D{STATE}"
        ),
        format!(r#"{{"code":"f0reign","state":"{FOREIGN}"}} {{"code":"{CODE}","state":"{STATE}"}}"#),
    ] {
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

#[test]
fn a_code_alone_is_returned_without_a_sign_in() {
    let bare = |text: &str| {
        let response = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(response.sign_in, None, "{text:?}");
        response.code.expose().to_owned()
    };
    for (before, after) in [
        ("", ""),
        ("  ", "\n"),
        ("`", "`"),
        ("<", ">"),
        ("```\n", "\n```"),
        ("```text\n", "\n```"),
        ("“", "”"),
        ("**", "**"),
        ("||", "||"),
        ("", "."),
        ("", "，"),
        ("", "#"),
        ("\u{1b}[200~", "\u{1b}[201~"),
    ] {
        assert_eq!(bare(&format!("{before}{CODE}{after}")), CODE, "{before:?} {after:?}");
    }
    assert_eq!(bare("4/0AX4XfWh+x=="), "4/0AX4XfWh+x==");
    assert_eq!(bare("4%2F0AX4XfWh"), "4/0AX4XfWh");
    assert_eq!(bare("ac_1-2.3Xy\n  9fGh7"), "ac_1-2.3Xy9fGh7", "a wrapped line");
    assert_eq!(bare("code=ac_1-2.3Xy"), CODE);
    assert_eq!(bare("Your authorization code: ac_1-2.3Xy"), CODE);
    assert_eq!(bare(&format!("http://127.0.0.1:1/callback?code={CODE}")), CODE);
}

#[test]
fn an_issuer_is_read_with_the_text_that_goes_on_after_it() {
    let issuer = "https://id.example.com/realms/a";
    let escaped = "https%3A%2F%2Fid.example.com%2Frealms%2Fa";
    for iss in [issuer, escaped] {
        let text = format!("{}&iss={iss}", address());
        for after in ["", ".", ")", " thanks", "\nthanks a lot", "\nhttps://help.example", "\"", "&code="] {
            let response = read(&format!("{text}{after}")).expect("it is ours");
            assert_eq!(response.foreign_issuer(issuer), None, "{iss} {after:?}");
            assert_eq!(response.foreign_issuer("https://id.example.com"), Some(issuer), "{iss} {after:?}");
        }
        for at in text.len() - iss.len()..text.len() {
            let response = read(&format!("{}\n{}", &text[..at], &text[at..])).expect("it is ours");
            assert_eq!(response.foreign_issuer(issuer), None, "{iss} {at}");
        }
    }
}

#[test]
fn a_long_address_is_accepted_up_to_64_kib() {
    let long = "aB3-".repeat(1100);
    assert_eq!(code(&address().replace(CODE, &long)), long);
    let padded = |length: usize| format!("{}{}", address(), " ".repeat(length - address().len()));
    assert_eq!(code(&padded(64 * 1024)), CODE);
    assert_eq!(read(&padded(64 * 1024 + 1)).expect_err("too long"), PasteError::TooLong);
    assert!(read(&"x1".repeat(4 * 1024)).is_ok());
    assert_eq!(read(&"x1".repeat(4 * 1024 + 1)).expect_err("too long"), PasteError::TooLong);
}

#[test]
fn full_width_characters_and_typographic_hyphens_are_read_as_ascii() {
    let wide = |c: char| match c {
        '!'..='~' => char::from_u32(u32::from(c) + 0xfee0).expect("a full-width character"),
        c => c,
    };
    assert_eq!(code(&address().chars().map(wide).collect::<String>()), CODE);
    for hyphen in ['\u{2010}', '\u{2011}'] {
        assert_eq!(code(&address().replace('-', &hyphen.to_string())), CODE);
    }
}

#[test]
fn a_soft_line_break_of_a_mail_may_stand_anywhere_in_the_address() {
    let encoded = address().replace('=', "=3D");
    for at in (1..encoded.len()).filter(|&at| !encoded[..at].ends_with(['=', '3'])) {
        let text = format!("{}=\r\n{}", &encoded[..at], &encoded[at..]);
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

/// Returns the address in lines of this width, each with its mark.
fn in_lines(address: &str, width: usize, mark: impl Fn(usize) -> String) -> String {
    let lines = address.as_bytes().chunks(width).enumerate();
    let line = |(number, line): (usize, &[u8])| {
        format!("{}{}\n", mark(number + 1), std::str::from_utf8(line).expect("it is ASCII"))
    };
    lines.map(line).collect()
}

#[test]
fn marks_at_the_beginnings_of_lines_do_no_harm() {
    for address in [address(), code_last()] {
        for width in [30, 40, 60, 79] {
            for (before, after) in
                [("", "  "), ("  ", ": "), ("", ". "), ("   ", " | "), ("", "\t"), (" ", " │ ")]
            {
                for first in [1, 99] {
                    let text =
                        in_lines(&address, width, |line| format!("{before}{}{after}", line + first - 1));
                    assert_eq!(code(&text), CODE, "{text:?}");
                    let last = first + address.len().div_ceil(width);
                    let text = format!("{text}{before}{last}\n");
                    assert_eq!(code(&text), CODE, "{text:?}");
                }
            }
            for mark in ["+ ", "- ", "* ", "// ", "# ", "> > ", "-- ", ";; ", "| "] {
                let text = in_lines(&address, width, |_| mark.to_owned());
                assert_eq!(code(&text), CODE, "{text:?}");
            }
        }
    }
    let numbers = in_lines(&address().replace(STATE, FOREIGN), 40, |line| format!("{line}: "));
    assert_eq!(read(&numbers).expect_err("foreign"), PasteError::StateMismatch);
}

#[test]
fn a_table_with_the_code_and_the_state_is_read() {
    for text in [
        format!("| page | {} | done |\n", address()),
        format!("| what | address |\n|---|---|\n| page | {} |\n", code_last()),
        format!("| name | value |\n| --- | --- |\n| code | {CODE} |\n| state | {STATE} |\n"),
        format!("| state | {STATE} |\n| scope | openid |\n| code | {CODE} |\n"),
        format!("|code|{CODE}|\n|state|{STATE}|\n"),
        format!("| code | state |\n|---|---|\n| {CODE} | {STATE} |\n"),
        format!("| code | scope | state |\n|:--|:-:|--:|\n| `{CODE}` | openid | `{STATE}` |\n"),
        format!("code\t{CODE}\nstate\t{STATE}\n"),
        format!("code,state\n{CODE},{STATE}\n"),
        format!("code => {CODE}\nstate => {STATE}\n"),
    ] {
        assert_eq!(code(&text), CODE, "{text:?}");
    }
}

#[test]
fn a_link_that_a_mail_filter_wrapped_is_unwrapped() {
    let proofpoint = |text: &str| -> String {
        let escape = |c: char| match c {
            '/' => "_".to_owned(),
            c if c.is_ascii_alphanumeric() || c == '.' => c.to_string(),
            c => format!("-{:02X}", u32::from(c)),
        };
        text.chars().map(escape).collect()
    };
    let encoded = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    for address in [address(), code_last()] {
        for text in [
            format!(
                "https://urldefense.proofpoint.com/v2/url?u={}&d=DwMFaQ&c=a-b&r=k_9-a&m=J-9&s=_x2-F&e=",
                proofpoint(&address)
            ),
            format!("https://urldefense.com/v3/__{address}__;!!abc123!xyz-9_Q$"),
            format!(
                "https://nam02.safelinks.protection.outlook.com/?url={}&data=05%7C02%7Calice&sdata=Zk9%2Bx%3D&reserved=0",
                encoded(&address)
            ),
            format!("https://www.google.com/url?q={}&sa=D&source=editors&usg=AOvVaw0", encoded(&address)),
            format!("https://l.facebook.com/l.php?u={}&h=AT0_x9", encoded(&encoded(&address))),
        ] {
            assert_eq!(code(&text), CODE, "{text:?}");
        }
    }
}
