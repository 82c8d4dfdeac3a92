//! Server-sent events, as the HTML standard defines their stream. An event and a line have a limit,
//! because a server could otherwise make this process keep any amount.

/// An event with data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its lines, joined by line feeds.
    pub(super) data: String,
}

/// The longest event, in bytes.
pub(super) const MAX_EVENT: usize = 16 << 20;

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return: a line feed after it ends no second line.
    after_return: bool,
    is_begun: bool,
    data: Option<String>,
    id: Option<String>,
    /// The id of the last event, from which a broken stream goes on.
    pub(super) last_id: Option<String>,
    /// The time to wait before that, in milliseconds.
    pub(super) retry: Option<u64>,
}

/// An event is longer than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Returns the reader of the stream that goes on after this one.
    pub(super) fn after_break(self) -> Self {
        Self { last_id: self.last_id, retry: self.retry, ..Self::default() }
    }

    /// Takes the next bytes, and returns the events that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_return = false;
                    let kept = self.data.as_ref().map_or(0, String::len);
                    if self.line.len() + kept >= MAX_EVENT {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = if self.is_begun { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        self.is_begun = true;
        if line.is_empty() {
            if let Some(id) = self.id.take() {
                self.last_id = Some(id);
            }
            // An event without data only carries its id.
            return self.data.take().filter(|data| !data.is_empty()).map(|data| Event { data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().or(self.retry),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(events: &mut Events, bytes: &[u8]) -> Vec<String> {
        events.take(bytes).expect("it is short").into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn events_are_the_same_however_their_bytes_arrive() {
        let stream = "\u{feff}data: a\r\ndata:b\r\n\r\n: note\rid: 7\rdata\rdata: c\r\revent: x\ndata: ä\nretry: 90\n\ndata: lost";
        let expected = ["a\nb", "\nc", "ä"];
        let mut whole = Events::default();
        assert_eq!(all(&mut whole, stream.as_bytes()), expected);
        assert_eq!((whole.last_id.as_deref(), whole.retry), (Some("7"), Some(90)));
        let mut single = Events::default();
        let found: Vec<_> = stream.bytes().flat_map(|byte| all(&mut single, &[byte])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_event_without_data_is_only_an_id() {
        let mut events = Events::default();
        assert!(all(&mut events, b"id: 1\ndata:\n\n").is_empty());
        assert_eq!(events.last_id.as_deref(), Some("1"));
    }

    #[test]
    fn an_endless_event_is_an_error() {
        let mut events = Events::default();
        let part = vec![b'x'; 1 << 20];
        let mut taken = (0..=MAX_EVENT >> 20).map(|_| events.take(&part).map(drop));
        assert!(taken.any(|taken| taken == Err(TooLong)));
        let mut events = Events::default();
        let line = [b"data: ".as_slice(), &part, b"\n"].concat();
        let mut taken = (0..=MAX_EVENT >> 20).map(|_| events.take(&line).map(drop));
        assert!(taken.any(|taken| taken == Err(TooLong)));
    }
}
