//! The streaming watch, and the old way of waiting for something newer. A watcher is a number, the revision it has seen:
//! one that falls behind costs nothing and gets the whole picture again.
use super::body::{Gone, Writer};
use crate::subnet::embedded::{
    Store,
    store::News,
    wire::{HEARTBEAT, LINE_TARGET, json},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Changes that come within this are one line.
const BATCH: Duration = Duration::from_millis(10);
/// How long the old API's `?next=` waits.
const LONG_POLL: Duration = Duration::from_secs(55);

/// Writes the picture, then what changes, until the reader is gone.
pub async fn stream(store: Arc<Store>, cursor: Option<u64>, writer: Writer) -> Result<(), Gone> {
    let mut changes = store.changes();
    let store_and_ttl = format!(
        r#""store":{},"ttl":{}"#,
        json(&store.id()),
        store.ttl().as_secs()
    );
    writer.send(format!("{{{store_and_ttl}}}\n")).await?;
    let mut seen = cursor;
    loop {
        changes.borrow_and_update();
        let (news, revision) = store.since(seen);
        match news {
            News::Snapshot(leases) => {
                let head = format!(r#"{store_and_ttl},"snapshot":["#);
                lines(&writer, &head, &leases, revision).await?;
            }
            News::Events(events) if events.is_empty() => heartbeat(&writer, revision).await?,
            News::Events(events) => lines(&writer, r#""events":["#, &events, revision).await?,
        }
        seen = Some(revision);
        loop {
            tokio::select! {
                () = writer.closed() => return Err(Gone),
                () = sleep(HEARTBEAT) => heartbeat(&writer, revision).await?,
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
            }
        }
        sleep(BATCH).await;
    }
}

async fn heartbeat(writer: &Writer, revision: u64) -> Result<(), Gone> {
    writer
        .send(format!("{{\"cursor\":\"{revision}\"}}\n"))
        .await
}

/// Items as lines of about [`LINE_TARGET`]; only the last has the cursor, so a reader never takes a part for the whole.
async fn lines(writer: &Writer, head: &str, items: &[Arc<str>], revision: u64) -> Result<(), Gone> {
    let mut rest = items.iter().peekable();
    loop {
        let mut line = format!("{{{head}");
        fill(&mut line, &mut rest);
        if rest.peek().is_some() {
            line.push_str("],\"more\":true}\n");
            writer.send(line).await?;
        } else {
            line.push_str(&format!("],\"cursor\":\"{revision}\"}}\n"));
            return writer.send(line).await;
        }
    }
}

/// Appends items, with commas between them, until the text is long enough.
fn fill<'a>(text: &mut String, items: &mut impl Iterator<Item = &'a Arc<str>>) {
    let mut comma = "";
    while text.len() < LINE_TARGET {
        let Some(item) = items.next() else { return };
        text.push_str(comma);
        text.push_str(item);
        comma = ",";
    }
}

/// The old API's answer with all leases.
pub async fn list(store: &Store, writer: Writer) -> Result<(), Gone> {
    let (leases, revision) = store.snapshot();
    writer.send(r#"{"events":null,"snapshot":["#.into()).await?;
    let mut rest = leases.iter().peekable();
    while rest.peek().is_some() {
        let mut piece = String::new();
        fill(&mut piece, &mut rest);
        if rest.peek().is_some() {
            piece.push(',');
        }
        writer.send(piece).await?;
    }
    writer.send(format!(r#"],"cursor":"{revision}"}}"#)).await
}

/// Returns when there is something newer than what the client has seen, or after [`LONG_POLL`].
pub async fn newer(store: &Store, seen: u64) {
    let mut changes = store.changes();
    let news = changes.wait_for(|revision| *revision != seen);
    // both a change and the end of the patience are answered with the picture
    drop(timeout(LONG_POLL, news).await);
}
