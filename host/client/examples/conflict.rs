//! Two writers who know nothing of each other, and the reader who settles it.
//!
//! Start a node with `stator serve`, then:
//! `cargo run -p stator-client --example conflict [ENDPOINT]`.

use stator_client::{Client, Effect, Entry, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7101".to_owned());
    let client = Client::connect([endpoint])?;

    // Neither has read the key, so neither replaces the other: the versions become siblings.
    for item in ["tea", "milk"] {
        let mut list = Entry::blind("default", "shopping list");
        list.set(item);
        let written = client.put(list).await?;
        println!("put {item}: {} on {} node(s)", written.dot, written.acked);
    }

    // Who reads sees both, and the context says so.
    let mut list = client.get("default", "shopping list").await?;
    let mut items: Vec<String> = Vec::new();
    for sibling in list.siblings() {
        let value = sibling.value.as_deref().unwrap_or_default();
        items.push(String::from_utf8_lossy(value).into_owned());
    }
    println!("{} siblings: {}", items.len(), items.join(" | "));

    // The put carries the context: it replaces exactly what was read. It has a name, so that
    // even an unknown outcome may be tried again.
    list.set(items.join(" and ")).request_id("settle the shopping list");
    match client.put(list).await {
        Ok(written) => println!("settled: siblings remain: {}", written.siblings_remain),
        Err(error) if error.effect() == Effect::None => println!("not written: {error}"),
        Err(error) => println!("perhaps written: {error}"),
    }

    let list = client.get("default", "shopping list").await?;
    println!("now: {}", String::from_utf8_lossy(list.value().map_or(b"", |value| value)));
    client.delete(list).await?;
    let gone = client.get("default", "shopping list").await?;
    println!("deleted: {}", gone.siblings().is_empty());
    Ok(())
}
