//! What has been sent of an upload and is not known to be durable yet.
//!
//! A body can be read only once, so what a cut may lose is kept until the cluster has it.
//!
//! Invariants
//! - Steps lie in order and without gaps, from the acknowledged position to the end.
//! - The window holds less than [`REPLAY_BYTES_MAX`] of data and one chunk; when it is full, nothing
//!   further is read from the body. The cluster acknowledges blocks of 1 MiB, so it moves.

use std::collections::VecDeque;

use bytes::Buf;
use kura_proto::v1;

use super::feed::Step;

/// Data kept for replay, at most (and one chunk).
pub(crate) const REPLAY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A place in an upload: parts begun, and bytes of the last of them. Ordered as the upload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub parts: u32,
    pub bytes: u64,
}

impl From<&v1::PutPosition> for Position {
    fn from(wire: &v1::PutPosition) -> Self {
        Self { parts: wire.parts, bytes: wire.bytes }
    }
}

/// A position that the window does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Before the window: what lies there is gone.
    Before,
    /// After everything that was sent.
    After,
}

#[derive(Default)]
pub(crate) struct Window {
    steps: VecDeque<Step>,
    /// The first step that was not sent in the present attempt.
    unsent: usize,
    data_bytes: usize,
    acknowledged: Position,
    end: Position,
}

impl Window {
    /// Adds a step at the end.
    pub fn push(&mut self, step: Step) {
        self.data_bytes += step.data_bytes();
        self.end = end_of(&step);
        self.steps.push_back(step);
    }

    pub fn has_room(&self) -> bool {
        self.data_bytes < REPLAY_BYTES_MAX
    }

    /// The next step to send, if there is one.
    pub fn next(&self) -> Option<&Step> {
        self.steps.get(self.unsent)
    }

    /// The next step is sent.
    pub fn advance(&mut self) {
        self.unsent = (self.unsent + 1).min(self.steps.len());
    }

    /// Begins a new attempt: everything kept is to be sent again.
    pub fn rewind(&mut self) {
        self.unsent = 0;
    }

    /// Whether nothing was acknowledged yet, so that everything sent is still here.
    pub fn is_whole(&self) -> bool {
        self.acknowledged == Position::default()
    }

    /// Forgets what is durable now. Answers whether that is more than before.
    pub fn acknowledge(&mut self, position: Position) -> Result<bool, Outside> {
        if position > self.end {
            return Err(Outside::After);
        }
        if position < self.acknowledged {
            return Err(Outside::Before);
        }
        let more = position > self.acknowledged;
        self.acknowledged = position;
        while let Some(step) = self.steps.front_mut() {
            if end_of(step) > position {
                if let Step::Data { part, offset, bytes } = step
                    && *part == position.parts
                    && *offset < position.bytes
                {
                    let durable = position.bytes - *offset;
                    // Less than the length of the chunk, as its end lies after the position.
                    bytes.advance(usize::try_from(durable).unwrap_or(bytes.len()));
                    *offset += durable;
                    self.data_bytes -= usize::try_from(durable).unwrap_or(0);
                }
                break;
            }
            self.data_bytes -= step.data_bytes();
            self.steps.pop_front();
            self.unsent = self.unsent.saturating_sub(1);
        }
        Ok(more)
    }
}

/// Where the upload is once a step is done.
fn end_of(step: &Step) -> Position {
    match step {
        Step::Part { number, .. } => Position { parts: *number, bytes: 0 },
        Step::Data { part, offset, bytes } => Position { parts: *part, bytes: offset + bytes.len() as u64 },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn window() -> Window {
        let part = |number| Step::Part { number, name: String::new(), media_type: String::new() };
        let data = |part, offset, bytes: &'static [u8]| Step::Data { part, offset, bytes: Bytes::from_static(bytes) };
        let mut window = Window::default();
        for step in [part(1), data(1, 0, b"abcd"), data(1, 4, b"efgh"), part(2), part(3), data(3, 0, b"ijkl")] {
            window.push(step);
        }
        window
    }

    /// Everything not sent yet, as text: `|` for a part's beginning.
    fn rest(window: &mut Window) -> String {
        let mut text = String::new();
        while let Some(step) = window.next() {
            match step {
                Step::Part { .. } => text.push('|'),
                Step::Data { bytes, .. } => text.push_str(std::str::from_utf8(bytes).unwrap()),
            }
            window.advance();
        }
        text
    }

    #[test]
    fn what_is_acknowledged_is_not_sent_again_and_the_rest_is() {
        let table = [
            ((0, 0), "|abcdefgh||ijkl"),
            ((1, 0), "abcdefgh||ijkl"),
            ((1, 3), "defgh||ijkl"),
            ((1, 4), "efgh||ijkl"),
            ((1, 8), "||ijkl"),
            ((2, 0), "|ijkl"),
            ((3, 0), "ijkl"),
            ((3, 4), ""),
        ];
        for ((parts, bytes), left) in table {
            let mut window = window();
            rest(&mut window);
            assert_eq!(window.acknowledge(Position { parts, bytes }), Ok(parts > 0));
            assert_eq!(rest(&mut window), "", "an acknowledgement alone sends nothing again");
            window.rewind();
            assert_eq!(rest(&mut window), left, "{parts} {bytes}");
            let data = left.replace('|', "").len();
            assert_eq!(window.data_bytes, data);
        }
    }

    #[test]
    fn positions_outside_the_window_are_told() {
        let mut window = window();
        assert!(window.is_whole());
        window.acknowledge(Position { parts: 1, bytes: 4 }).unwrap();
        assert!(!window.is_whole());
        assert_eq!(window.acknowledge(Position { parts: 1, bytes: 4 }), Ok(false));
        assert_eq!(window.acknowledge(Position { parts: 1, bytes: 3 }), Err(Outside::Before));
        assert_eq!(window.acknowledge(Position { parts: 3, bytes: 5 }), Err(Outside::After));
    }

    #[test]
    fn the_window_is_full_at_its_bound() {
        let mut window = Window::default();
        window.push(Step::Data { part: 1, offset: 0, bytes: Bytes::from(vec![0; REPLAY_BYTES_MAX - 1]) });
        assert!(window.has_room());
        window.push(Step::Data { part: 1, offset: REPLAY_BYTES_MAX as u64 - 1, bytes: Bytes::from_static(b"x") });
        assert!(!window.has_room());
    }
}
