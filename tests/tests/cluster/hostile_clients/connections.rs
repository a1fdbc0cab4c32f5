//! Attacks with connections: many, slow, silent, half.

use futures::future::join_all;

use super::raw::{
    DATA, END_HEADERS, HEADERS, Outcomes, PREFACE, Raw, SETTINGS, frame, message, request_headers,
};

/// Opens `count` connections, each from the next of `froms`, sends `bytes`, and waits for what
/// becomes of each.
async fn all_end(to: &str, froms: &[u8], count: usize, bytes: &[u8]) -> Outcomes {
    let one = async |number: usize| match Raw::connect(to, froms[number % froms.len()]).await {
        Ok(mut raw) => {
            // It may be closed already.
            let _ = raw.send(bytes).await;
            raw.outcome(0, false).await
        }
        Err(error) => {
            let mut outcomes = Outcomes::default();
            outcomes.add(error.to_string());
            outcomes
        }
    };
    let mut outcomes = Outcomes::default();
    for outcome in join_all((0..count).map(one)).await {
        outcomes.join(outcome);
    }
    outcomes
}

/// Half of what begins HTTP/2, and then nothing.
pub async fn half_prefaces(to: &str, count: usize) -> Outcomes {
    all_end(to, &[2], count, &PREFACE[..12]).await
}

/// Nothing at all.
pub async fn silence(to: &str, count: usize) -> Outcomes {
    all_end(to, &[3], count, &[]).await
}

/// What begins a TLS handshake of 512 bytes, and then nothing.
pub async fn stalled_handshakes(to: &str, count: usize) -> Outcomes {
    all_end(to, &[4], count, &[22, 3, 1, 2, 0, 1]).await
}

/// Whole prefaces, then no sign of life.
pub async fn dead_peers(to: &str, count: usize) -> Outcomes {
    all_end(to, &[5], count, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await
}

/// More than the listener takes, from several addresses, each a good beginning.
pub async fn flood(to: &str, count: usize) -> Outcomes {
    let froms = [6, 7, 8, 9, 10];
    all_end(to, &froms, count, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await
}

/// Requests whose body stops coming, on connections that give signs of life.
pub async fn stalled_bodies(to: &str, count: usize, streams: usize) -> Outcomes {
    let one = async |_| {
        let mut outcomes = Outcomes::default();
        let Ok(mut raw) = Raw::open(to, 11).await else {
            return outcomes;
        };
        for number in 0..streams {
            let stream = 2 * number as u32 + 1;
            let headers = request_headers("/stator.v1.Kv/Put");
            let body = message(0, 1 << 20, &[0; 8 << 10]);
            let begun =
                [frame(HEADERS, END_HEADERS, stream, &headers), frame(DATA, 0, stream, &body)];
            let _ = raw.send(&begun.concat()).await;
        }
        outcomes.join(raw.outcome(streams, true).await);
        outcomes
    };
    let mut outcomes = Outcomes::default();
    for outcome in join_all((0..count).map(one)).await {
        outcomes.join(outcome);
    }
    outcomes
}
