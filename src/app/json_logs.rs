//! The log as JSON: one object on a line for each event, with the fields of the spans around it.
//!
//! Each text is scrubbed before it is encoded, because an encoded secret would not be found.

use std::fmt::{self, Debug};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use crate::secret::Scrubber;

/// Writes the fields of a span as one object.
pub(super) struct JsonFields;

/// Writes each event as one object on a line, without secrets.
pub(super) struct JsonLine(pub(super) Scrubber);

#[derive(Default)]
struct Collected(Map<String, Value>);

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut collected = Collected::default();
        fields.record(&mut collected);
        write!(writer, "{}", Value::Object(collected.0))
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Map::new();
        line.insert("time".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        let mut spans = Vec::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let known = span.extensions();
            let of_span = known.get::<FormattedFields<JsonFields>>().map_or("{}", |of_span| of_span.as_str());
            let mut fields: Map<String, Value> = serde_json::from_str(of_span).unwrap_or_default();
            fields.insert("name".to_owned(), span.name().into());
            spans.push(Value::Object(fields));
        }
        let mut fields = Collected::default();
        event.record(&mut fields);
        // The message comes before the other fields.
        if let Some(message) = fields.0.shift_remove("message") {
            line.insert("message".to_owned(), message);
        }
        line.insert("fields".to_owned(), Value::Object(fields.0));
        if !spans.is_empty() {
            line.insert("spans".to_owned(), spans.into());
        }
        let mut line = Value::Object(line);
        self.clean(&mut line);
        writeln!(writer, "{line}")
    }
}

impl JsonLine {
    /// Removes secrets from all texts.
    fn clean(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.0.clean(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.clean(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    pub(in crate::app) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the text that a layer with this writer has written after these events.
    pub(in crate::app) fn captured<L>(layer: impl FnOnce(Capture) -> L, events: impl FnOnce()) -> String
    where
        L: tracing_subscriber::Layer<tracing_subscriber::Registry> + Send + Sync,
    {
        let lines = Lines::default();
        let layer = layer(Capture(lines.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
        let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(lines.clone()).expect("UTF-8")
    }

    /// Makes writers to the same lines.
    pub(in crate::app) struct Capture(Lines);

    impl MakeWriter<'_> for Capture {
        type Writer = Lines;

        fn make_writer(&self) -> Lines {
            self.0.clone()
        }
    }

    #[test]
    fn a_json_event_is_one_object_with_its_spans_and_without_secrets() {
        let scrubber = Scrubber::new();
        let secret = "at-live \"odd\" \\ 1234";
        scrubber.note(secret);
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).fmt_fields(JsonFields);
        let log = captured(
            |writer| layer.with_writer(writer).event_format(JsonLine(scrubber)),
            || {
                let span = tracing::info_span!("refresh", tenant = %"acme/local", generation = 7_u64);
                span.in_scope(
                    || tracing::warn!(error = %secret, line = secret, count = 3, "it wrote\n{secret}"),
                );
                tracing::info!("the next one");
            },
        );
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(!log.contains("1234"), "{log}");
        assert_eq!(lines[0]["message"], "it wrote\n[secret removed]");
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["fields"]["line"], "[secret removed]");
        assert_eq!(lines[0]["fields"]["count"], 3);
        let span = serde_json::json!([{"tenant": "acme/local", "generation": 7, "name": "refresh"}]);
        assert_eq!(lines[0]["spans"], span);
        assert!(lines[1].get("spans").is_none(), "{log}");
    }
}
