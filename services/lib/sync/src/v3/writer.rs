//! Writes JSON around events that are rendered already: they are copied, never parsed again.

use bytes::Bytes;

/// A JSON text under construction.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// Whether a comma is due before the next element.
    comma: bool,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), comma: false }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.open(b'{');
        fields(self);
        self.close(b'}');
    }

    pub(super) fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.open(b'[');
        elements(self);
        self.close(b']');
    }

    /// A field's name; its value must follow.
    pub(super) fn key(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.out.push(b':');
        self.comma = false;
        self
    }

    pub(super) fn string(&mut self, text: &str) {
        self.separate();
        // Writing into memory can't fail.
        let _ = serde_json::to_writer(&mut self.out, text);
        self.comma = true;
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(number.to_string().as_bytes());
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    /// JSON that is complete by itself.
    pub(super) fn raw(&mut self, json: &[u8]) {
        self.separate();
        self.out.extend_from_slice(json);
        self.comma = true;
    }

    /// `{"events": [...]}` under a name, unless there are none.
    pub(super) fn events(&mut self, name: &str, events: &[Bytes]) {
        if !events.is_empty() {
            self.key(name).object(|w| w.key("events").array(|w| events.iter().for_each(|event| w.raw(event))));
        }
    }

    fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.comma = true;
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
    }
}
