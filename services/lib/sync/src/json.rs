//! Writes JSON around events that are rendered already: they are copied, never parsed again.

use bytes::Bytes;

/// A JSON text under construction. Whoever writes sees to it that names and values follow each other, and that what was opened is closed.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    /// Whether a comma is due before the next element.
    comma: bool,
}

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), comma: false }
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// An object with what `fields` writes.
    pub fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.open(b'{');
        fields(self);
        self.close(b'}');
    }

    /// An array of what `elements` writes.
    pub fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.open(b'[');
        elements(self);
        self.close(b']');
    }

    /// A field's name; its value must follow.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.out.push(b':');
        self.comma = false;
        self
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.separate();
        // Writing into memory can't fail.
        let _ = serde_json::to_writer(&mut self.out, text);
        self.comma = true;
    }

    /// A number.
    pub fn number(&mut self, number: u64) {
        self.raw(number.to_string().as_bytes());
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    /// JSON that is complete by itself.
    pub fn raw(&mut self, json: &[u8]) {
        self.separate();
        self.out.extend_from_slice(json);
        self.comma = true;
    }

    /// `{"events": [...]}` under a name, unless there are none.
    pub fn events(&mut self, name: &str, events: &[Bytes]) {
        if !events.is_empty() {
            self.key(name).object(|w| w.events_under("events", events));
        }
    }

    /// An array of events under a name.
    pub fn events_under(&mut self, name: &str, events: &[Bytes]) {
        self.key(name).array(|w| events.iter().for_each(|event| w.raw(event)));
    }

    /// Begins an object or an array that is written piece by piece.
    pub fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    /// Ends what [`Writer::open`] began.
    pub fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.comma = true;
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
    }
}
