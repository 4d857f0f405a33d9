//! Hand-made HTTP/2 frames, for misbehaving clients.

/// The client preface.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames.
pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;
/// Flags of frames.
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The HEADERS frame of a call to `path`, before its message. HPACK without compression.
pub fn call(stream: u32, path: &str) -> Vec<u8> {
    call_with(stream, path, &[])
}

/// The same with more headers, each shorter than 127 bytes.
pub fn call_with(stream: u32, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 0x7f).expect("short");
        [&[length], text.as_bytes()].concat()
    };
    // The static table has `:method: POST` at 3, `:scheme: http` at 6, `:path` at 4, `content-type` at 31.
    let mut block = [&[0x83, 0x86, 0x04][..], &text(path), &[0x0f, 0x10], &text("application/grpc")].concat();
    for (name, value) in headers {
        block.extend([&[0x00][..], &text(name), &text(value)].concat());
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// A message with gRPC's prefix, in DATA frames of which the last ends the stream.
pub fn message(stream: u32, is_compressed: bool, message: &[u8]) -> Vec<u8> {
    const LARGEST: usize = 16 * 1024;
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    let framed = [&[u8::from(is_compressed)], &length[..], message].concat();
    let (count, chunks) = (framed.len().div_ceil(LARGEST), framed.chunks(LARGEST));
    let frames =
        (1..).zip(chunks).map(|(n, chunk)| frame(DATA, if n == count { END_STREAM } else { 0 }, stream, chunk));
    frames.collect::<Vec<_>>().concat()
}
