//! The ten lines of docs/clients.md as a whole program: a value is read, replaced, and changed in one step.
//!
//! Start a node with `stator serve`, then:
//! `cargo run -p stator-client --example ten_lines 127.0.0.1:7101`.

use bytes::Bytes;
use stator_client::{Client, Effect, Entry, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(std::env::args().skip(1))?;
    let longer = |cart: &Entry, item: &str| {
        let text = cart.value().map(|value| String::from_utf8_lossy(value).into_owned());
        Bytes::from(text.unwrap_or_default() + item)
    };
    let mut cart = client.get("default", "customer 7").await?;
    cart.set(longer(&cart, "tea;"));
    match client.put(cart).await {
        Err(error) if error.effect() == Effect::Maybe => println!("perhaps written: {error}"),
        Err(error) => println!("not written: {error}"),
        Ok(_) => {}
    }
    client.update("default", "customer 7", |cart| Some(longer(cart, "milk;"))).await?;
    Ok(())
}
