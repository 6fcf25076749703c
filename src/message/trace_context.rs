//! W3C Trace Context in the headers of messages: parsed strictly, and passed on unchanged.

use std::fmt;

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";

/// A place in a distributed trace; see [`Message::trace_context`](crate::Message::trace_context) and
/// [`OutgoingMessage::trace_context`](crate::OutgoingMessage::trace_context).
///
/// Kasper makes no spans of its own for messages, because a batch of ten thousand messages would need ten thousand
/// spans. It gives you the trace context of each message that you want to trace, and sends the trace contexts that
/// you add to outgoing messages.
///
/// ```
/// # #[cfg(feature = "testkit")]
/// # async fn example() -> kasper::Result<()> {
/// use kasper::testkit::{ProcessorTester, TestMessage};
/// use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
///
/// struct Answer;
///
/// impl Processor for Answer {
///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
///         for question in batch.iter() {
///             let trace = question.trace_context();
///             // The id of a span that you have made for it.
///             let trace = trace.and_then(|trace| trace.child([0xab; 8]));
///             context.send(OutgoingMessage::new("answers").value("42").trace_context(trace));
///         }
///         Ok(())
///     }
/// }
///
/// let mut tester = ProcessorTester::new(["questions"], |_| Answer);
/// let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let question = TestMessage::new("questions").header("traceparent", traceparent);
/// tester.push(question.header("tracestate", "congo=t61rcWkgMzE"));
/// tester.push(TestMessage::new("questions"));
/// tester.run_batch().await?;
///
/// let answers = tester.outgoing();
/// let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01";
/// assert_eq!(answers[0].header_text("traceparent"), Some(sent));
/// assert_eq!(answers[0].header_text("tracestate"), Some("congo=t61rcWkgMzE"));
/// assert_eq!(answers[1].header_text("traceparent"), None);
/// # Ok(())
/// # }
/// # #[cfg(feature = "testkit")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
/// #     .block_on(example()).unwrap();
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
    tracestate: Option<String>,
}

impl TraceContext {
    /// A new trace context. `None` if one of the ids is all zeros, which the specification forbids.
    ///
    /// ```
    /// use kasper::TraceContext;
    ///
    /// let trace = TraceContext::new([0x1a; 16], [0x2b; 8], false).unwrap();
    /// assert_eq!(trace.traceparent(), "00-1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a-2b2b2b2b2b2b2b2b-00");
    /// assert_eq!(TraceContext::new([0; 16], [0x2b; 8], false), None);
    /// ```
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], sampled: bool) -> Option<Self> {
        let valid = trace_id != [0; 16] && parent_id != [0; 8];
        valid.then(|| Self { trace_id, parent_id, flags: sampled.into(), tracestate: None })
    }

    /// Parses the values of the two headers. `None` if `traceparent` is not valid. A `tracestate` that is not
    /// printable ASCII is left out. Otherwise its content is not examined, because it belongs to the systems that
    /// wrote it.
    ///
    /// Versions after 00 are read as the specification requires: like version 00, except that more fields may follow
    /// after a dash.
    ///
    /// ```
    /// use kasper::TraceContext;
    ///
    /// let valid = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// let trace = TraceContext::parse(valid, Some(b" congo=t61rcWkgMzE ")).unwrap();
    /// assert!(trace.is_sampled());
    /// assert_eq!(trace.tracestate(), Some("congo=t61rcWkgMzE"));
    /// // Hexadecimal digits must be in lower case.
    /// assert_eq!(TraceContext::parse(&valid.to_ascii_uppercase(), None), None);
    /// ```
    pub fn parse(traceparent: &[u8], tracestate: Option<&[u8]>) -> Option<Self> {
        let (version, rest) = (hex::<1>(traceparent.get(..2)?)?, traceparent.get(2..)?);
        let (trace_id, rest) = field::<16>(rest)?;
        let (parent_id, rest) = field::<8>(rest)?;
        let ([flags], rest) = field::<1>(rest)?;
        let ends = rest.is_empty() || version != [0] && rest.starts_with(b"-");
        if version == [0xff] || !ends {
            return None;
        }
        let state = tracestate.filter(|state| state.iter().all(|byte| matches!(byte, b' '..=b'~')));
        let state = state.and_then(|state| std::str::from_utf8(state).ok()).map(str::trim);
        let tracestate = state.filter(|state| !state.is_empty()).map(str::to_owned);
        // A version that is not known may give the other flags a meaning; only the first is sure.
        let flags = if version == [0] { flags } else { flags & 1 };
        Some(Self { tracestate, flags, ..Self::new(trace_id, parent_id, false)? })
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span that sent the message.
    pub fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether the sender recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The data that tracing systems have added, unchanged except for spaces at both ends.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    pub(crate) fn into_tracestate(self) -> Option<String> {
        self.tracestate
    }

    /// The same trace, continued by a span of yours; `None` if the span's id is all zeros.
    ///
    /// ```
    /// # use kasper::TraceContext;
    /// let parent = TraceContext::new([0x1a; 16], [0x2b; 8], true).unwrap();
    /// let child = parent.child([0x3c; 8]).unwrap();
    /// assert_eq!((child.trace_id(), child.parent_id()), (parent.trace_id(), [0x3c; 8]));
    /// assert!(child.is_sampled());
    /// ```
    #[must_use]
    pub fn child(&self, span_id: [u8; 8]) -> Option<Self> {
        (span_id != [0; 8]).then(|| Self { parent_id: span_id, ..self.clone() })
    }

    /// The value for the header `traceparent`, in version 00.
    pub fn traceparent(&self) -> String {
        let (trace, parent) =
            (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.parent_id));
        format!("00-{trace:032x}-{parent:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut this = f.debug_struct("TraceContext");
        this.field("traceparent", &self.traceparent())
            .field("tracestate", &self.tracestate)
            .finish()
    }
}

/// A dash and so many bytes in hexadecimal, and what follows.
fn field<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let text = text.strip_prefix(b"-")?;
    Some((hex(text.get(..2 * N)?)?, text.get(2 * N..)?))
}

/// Lower case only, as the specification has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(traceparent: &str) -> Option<TraceContext> {
        TraceContext::parse(traceparent.as_bytes(), None)
    }

    #[test]
    fn what_is_valid_comes_out_as_it_came_in() {
        let context = parse(VALID).unwrap();
        assert_eq!(context.trace_id()[..3], [0x4b, 0xf9, 0x2f]);
        assert_eq!(context.parent_id(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), VALID);
        let unsampled = VALID.replace("-01", "-00");
        assert!(!parse(&unsampled).unwrap().is_sampled());
        let with_flags = VALID.replace("-01", "-03");
        assert_eq!(parse(&with_flags).unwrap().traceparent(), with_flags);
    }

    #[test]
    fn what_is_not_valid_is_none() {
        let cases = [
            ("empty", String::new()),
            ("upper case", VALID.to_uppercase()),
            ("version ff", VALID.replacen("00", "ff", 1)),
            ("version not hexadecimal", VALID.replacen("00", "0x", 1)),
            ("no trace", VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32))),
            ("no parent", VALID.replace("00f067aa0ba902b7", &"0".repeat(16))),
            ("short", VALID[..54].to_owned()),
            ("long", format!("{VALID}0")),
            ("version 00 with more", format!("{VALID}-01")),
            ("later version with no dash", format!("01{}x", &VALID[2..])),
            ("other separators", VALID.replace('-', "_")),
            ("space before", format!(" {VALID}")),
        ];
        for (name, case) in cases {
            assert_eq!(parse(&case), None, "{name}: {case}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for later in
            [format!("01{}", &VALID[2..]), format!("cc{}-what-the-future-will-be", &VALID[2..])]
        {
            assert_eq!(parse(&later).unwrap().traceparent(), VALID, "{later}");
        }
        let flags = format!("01{}", VALID[2..].replace("-01", "-07"));
        assert_eq!(parse(&flags).unwrap().traceparent(), VALID);
    }

    #[test]
    fn the_state_of_others_goes_on_and_nonsense_does_not() {
        let state = |state: &[u8]| {
            let context = TraceContext::parse(VALID.as_bytes(), Some(state)).unwrap();
            context.tracestate().map(str::to_owned)
        };
        assert_eq!(
            state(b"rojo=00f067aa0ba902b7,congo=t61").as_deref(),
            Some("rojo=00f067aa0ba902b7,congo=t61")
        );
        assert_eq!(state(b""), None);
        assert_eq!(state("gr\u{fc}n=1".as_bytes()), None);
        assert_eq!(state(b"a=1\nb=2"), None);
    }

    #[test]
    fn a_child_has_the_trace_and_its_own_id() {
        let parent = TraceContext::parse(VALID.as_bytes(), Some(b"a=1")).unwrap();
        let child = parent.child([7; 8]).unwrap();
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_eq!((child.parent_id(), child.tracestate()), ([7; 8], Some("a=1")));
        assert_eq!(parent.child([0; 8]), None);
        assert_eq!(TraceContext::new([0; 16], [1; 8], true), None);
    }
}
