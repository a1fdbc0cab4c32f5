//! RESP2, the protocol of Redis, as far as a client of GET, SET and WAIT meets it.
//!
//! A command is an array of bulk strings: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`. The first byte of a reply
//! tells its kind: `+` a status, `-` an error, `:` an integer, `$` a bulk string, of which the length
//! -1 is *nil*. Replies come in the order of the commands and carry nothing else to tell them apart.
//! Left out: arrays and everything of RESP3, which none of these commands is answered with.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest line, a status or an error, and the longest string that Redis has (`proto-max-bulk-len`).
const LINE_BYTES_MAX: usize = 64 << 10;
const BULK_BYTES_MAX: usize = 512 << 20;
const END: &[u8] = b"\r\n";

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status,
    /// The first word of the error, such as `ERR` or `READONLY`.
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Nil,
}

/// What is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Writes a command to the end of `buffer`.
pub(super) fn write(buffer: &mut BytesMut, words: &[&[u8]]) {
    buffer.put_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        buffer.put_slice(format!("${}\r\n", word.len()).as_bytes());
        buffer.put_slice(word);
        buffer.put_slice(END);
    }
}

/// Takes the first reply out of `buffer`. None as long as it is not whole.
///
/// # Errors
/// It begins with what is no reply.
pub(super) fn read(buffer: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
    let Some(length) = buffer.windows(END.len()).take(LINE_BYTES_MAX).position(|two| two == END)
    else {
        return if buffer.len() > LINE_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let (kind, line) = buffer[..length].split_first().ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let whole = length + END.len();
    let reply = match kind {
        b'+' => Reply::Status,
        b'-' => Reply::Error(line.split(' ').next().unwrap_or_default().to_owned()),
        b':' => Reply::Integer(line.parse().map_err(|_| Malformed)?),
        b'$' if line == "-1" => Reply::Nil,
        b'$' => return bulk(buffer, whole, line.parse().map_err(|_| Malformed)?),
        _ => return Err(Malformed),
    };
    buffer.advance(whole);
    Ok(Some(reply))
}

/// A bulk string of `length` bytes after `header`.
fn bulk(buffer: &mut BytesMut, header: usize, length: usize) -> Result<Option<Reply>, Malformed> {
    if length > BULK_BYTES_MAX {
        return Err(Malformed);
    }
    let missing = (header + length + END.len()).saturating_sub(buffer.len());
    if missing > 0 {
        buffer.reserve(missing);
        return Ok(None);
    }
    if &buffer[header + length..][..END.len()] != END {
        return Err(Malformed);
    }
    buffer.advance(header);
    let value = buffer.split_to(length).freeze();
    buffer.advance(END.len());
    Ok(Some(Reply::Bulk(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[u8] =
        b"+OK\r\n:-7\r\n$4\r\na\r\nb\r\n$0\r\n\r\n$-1\r\n-READONLY You can't\r\n";

    fn expected() -> [Reply; 6] {
        let bulk = |text: &'static str| Reply::Bulk(text.into());
        let error = Reply::Error("READONLY".to_owned());
        [Reply::Status, Reply::Integer(-7), bulk("a\r\nb"), bulk(""), Reply::Nil, error]
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut buffer = BytesMut::new();
        write(&mut buffer, &[b"SET", b"k", b"a\r\nb"]);
        write(&mut buffer, &[b"WAIT", b"1", b"0"]);
        let set = &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n"[..];
        let wait = &b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"[..];
        assert_eq!(buffer, [set, wait].concat());
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        for size in [1, 2, 3, 5, REPLIES.len()] {
            let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
            for part in REPLIES.chunks(size) {
                buffer.put_slice(part);
                while let Some(reply) = read(&mut buffer).expect("well formed") {
                    replies.push(reply);
                }
            }
            assert_eq!(replies, expected(), "in parts of {size}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for wrong in
            ["*1\r\n", "\r\n", ":x\r\n", "$-2\r\n", "$1\r\nabc", "$99999999999\r\n", "?\r\n"]
        {
            assert_eq!(read(&mut wrong.into()), Err(Malformed), "{wrong:?}");
        }
        let endless = BytesMut::from(&vec![b'+'; LINE_BYTES_MAX + 1][..]);
        assert_eq!(read(&mut endless.clone()), Err(Malformed));
    }
}
