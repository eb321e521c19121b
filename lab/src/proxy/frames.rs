//! Where a client's requests begin and end.

/// The protocol a proxy carries, as far as cutting the client's bytes into whole requests goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// None: a rule sees whatever one read returned.
    Raw,
    /// A rule sees whole Kafka requests, with their length.
    Kafka,
    /// A rule sees whole PostgreSQL messages, with their type and length.
    Postgres,
}

/// Longer than any honest request; more means that the bytes are not of the protocol.
const LONGEST: usize = 256 << 20;

/// SSLRequest and GSSENCRequest: the server answers with one byte and the startup message is still to come.
const BEFORE_STARTUP: [u32; 2] = [80_877_103, 80_877_104];

/// The client's bytes of one connection that are no whole request yet.
#[derive(Debug)]
pub(crate) struct Frames {
    framing: Framing,
    pending: Vec<u8>,
    started: bool,
}

impl Frames {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, pending: Vec::new(), started: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole request.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let length = match self.framing {
            Framing::Raw => self.pending.len(),
            Framing::Kafka => number(&self.pending, 0)?.saturating_add(4),
            Framing::Postgres if self.started => number(&self.pending, 1)?.saturating_add(1),
            Framing::Postgres => number(&self.pending, 0)?,
        };
        let length = if length > LONGEST { self.pending.len() } else { length };
        if length == 0 || length > self.pending.len() {
            return None;
        }
        let rest = self.pending.split_off(length);
        let frame = std::mem::replace(&mut self.pending, rest);
        if self.framing == Framing::Postgres && !self.started {
            self.started = number(&frame, 4)
                .is_none_or(|code| !BEFORE_STARTUP.map(|code| code as usize).contains(&code));
        }
        Some(frame)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop_all(frames: &mut Frames) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| frames.pop()).collect()
    }

    #[test]
    fn kafka_requests_are_whole_however_the_bytes_arrive() {
        let stream = [&[0, 0, 0, 2, 7, 7][..], &[0, 0, 0, 1, 9]].concat();
        for cut in 0..stream.len() {
            let mut frames = Frames::new(Framing::Kafka);
            frames.push(&stream[..cut]);
            let mut seen = pop_all(&mut frames);
            frames.push(&stream[cut..]);
            seen.extend(pop_all(&mut frames));
            assert_eq!(seen, [vec![0, 0, 0, 2, 7, 7], vec![0, 0, 0, 1, 9]], "cut at {cut}");
        }
    }

    #[test]
    fn postgres_messages_have_no_type_until_startup_is_over() {
        let tls = [&8u32.to_be_bytes()[..], &BEFORE_STARTUP[0].to_be_bytes()].concat();
        let startup = [&9u32.to_be_bytes()[..], &196_608u32.to_be_bytes(), b"\0"].concat();
        let query = [b"Q", &11u32.to_be_bytes()[..], b"COMMIT\0"].concat();
        let mut frames = Frames::new(Framing::Postgres);
        frames.push(&[&tls[..], &startup, &query, b"X"].concat());
        assert_eq!(pop_all(&mut frames), [tls, startup, query]);
    }

    #[test]
    fn bytes_of_another_protocol_pass() {
        let mut frames = Frames::new(Framing::Kafka);
        frames.push(b"\xff\xff\xff\xffabc");
        assert_eq!(pop_all(&mut frames).concat(), b"\xff\xff\xff\xffabc");
    }
}
