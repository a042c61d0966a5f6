//! Additions of later versions are skipped (`PROTOCOL.md` §15).

use super::*;

#[test]
fn unknown_flags_are_skipped() {
    for (name, messages) in golden::messages() {
        let Frames { header, payload } = encode_batch(&messages);
        let mut header = header.to_vec();
        header[6] |= 0xff;
        header[7] |= 0xe0;
        assert_eq!(all(frames(&header, &payload)), messages.into_iter().map(Ok).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn longer_fixed_header_is_skipped() {
    for (name, messages) in golden::messages() {
        let Frames { header, payload } = encode_batch(&messages);
        let mut longer = header.to_vec();
        longer.splice(32..32, [0xee; 9]);
        longer[27] = 41;
        assert_eq!(all(frames(&longer, &payload)), messages.into_iter().map(Ok).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn bytes_after_the_last_field_are_skipped() {
    for (name, messages) in golden::messages() {
        let Frames { header, payload } = encode_batch(&messages);
        let longer = [&header[..], &[0xee; 9]].concat();
        assert_eq!(all(frames(&longer, &payload)), messages.into_iter().map(Ok).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn bytes_at_the_end_of_an_offer_are_skipped() {
    let header = encode(&Message::Ready(ready())).header.to_vec();
    let (service, method) = (position(&header, b"\x04Demo"), position(&header, b"\x04ping"));
    let mut longer = header.clone();
    // Two bytes at the end of the last method offer, the third at the end of its service offer.
    longer.splice(header.len()..header.len(), [0xee; 3]);
    longer[method - 1] += 2;
    longer[service - 1] += 3;
    assert_eq!(all(frames(&longer, b"")), [Ok(Message::Ready(ready()))]);
}

#[test]
fn unknown_codecs_of_an_introduction_are_skipped() {
    let mut header = encode(&Message::Ready(ready())).header.to_vec();
    let codecs = position(&header, &[3, 1, 2, 3]);
    header[codecs + 2] = 200;
    let known = vec![Codec::Bincode, Codec::Json];
    assert_eq!(all(frames(&header, b"")), [Ok(Message::Ready(Ready { codecs: known, ..ready() }))]);
}

#[test]
fn unknown_error_still_ends_its_call() {
    let reply = ErrorReply {
        call: CallId(7),
        partials: 2,
        code: ErrorCode::Panicked,
        maybe_executed: true,
        detail: "out of paper".into(),
        payload: Payload::default(),
    };
    let mut header = encode(&Message::Error(reply.clone())).header.to_vec();
    header[32] = 99;
    let detail = "error code 99, unknown in this version: out of paper".into();
    let expected = ErrorReply { code: ErrorCode::Malformed, detail, ..reply };
    assert_eq!(all(frames(&header, b"")), [Ok(Message::Error(expected))]);
}

#[test]
fn payload_of_a_kind_without_one_is_skipped() {
    let header = encode(&Message::Heartbeat).header;
    assert_eq!(all(frames(&header, b"for later")), [Ok(Message::Heartbeat)]);
}

#[test]
fn another_version_is_refused_by_its_number() {
    let mut header = encode(&Message::Heartbeat).header.to_vec();
    header[4] = 2;
    let malformed = refused(&header, b"");
    assert_eq!((malformed.kind, malformed.call), (None, None));
    assert_eq!(malformed.to_string(), "message: version 2 at byte 4 is not supported: this side has version 1");
}

fn position(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).expect("it is there")
}
