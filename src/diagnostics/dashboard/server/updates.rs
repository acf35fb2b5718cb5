//! Updates: one stream of events for each open page.

use super::{IDLE_TICKS, ServerState, TICK, typed};
use crate::diagnostics::dashboard::view::{self, Cursor};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};

/// An update for all pages.
pub(super) struct Update {
    from: Cursor,
    to: Cursor,
    frame: Bytes,
}

/// Makes updates while there are pages.
pub(super) async fn send_updates(state: Arc<ServerState>) {
    let mut sent = Cursor::default();
    let mut num_idle: u32 = 0;
    let mut had_runs = false;
    loop {
        while state.updates.receiver_count() == 0 {
            state.has_pages.notified().await;
        }
        tokio::time::sleep(TICK).await;
        let (text, to, has_runs) = view::update_json(&state.collector, &state.program, Some(sent));
        num_idle = if to == sent && !has_runs && !had_runs { num_idle + 1 } else { 0 };
        had_runs = has_runs;
        if !num_idle.is_multiple_of(IDLE_TICKS) {
            continue;
        }
        // Sending fails if the last page has been closed meanwhile.
        let _sent = state.updates.send(Arc::new(Update { from: sent, to, frame: frame(&text) }));
        sent = to;
    }
}

fn frame(text: &str) -> Bytes {
    // JSON has line breaks only in strings, where they are escaped.
    format!("event: update\ndata: {text}\n\n").into()
}

/// The stream of one page.
struct PageStream {
    state: Arc<ServerState>,
    updates: broadcast::Receiver<Arc<Update>>,
    /// `None` until the page has received the first update.
    received: Option<Cursor>,
    _permit: OwnedSemaphorePermit,
}

impl PageStream {
    async fn next(&mut self) -> Option<Bytes> {
        let Some(received) = self.received else { return Some(self.whole()) };
        loop {
            match self.updates.recv().await {
                // It is older than the whole state that the page has received.
                Ok(update) if update.to.task < received.task || update.to.event < received.event => {}
                Ok(update) if update.from.task > received.task || update.from.event > received.event => {
                    return Some(self.whole());
                }
                Ok(update) => {
                    self.received = Some(update.to);
                    return Some(update.frame.clone());
                }
                Err(RecvError::Lagged(_)) => return Some(self.whole()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The whole state.
    fn whole(&mut self) -> Bytes {
        // The updates that wait are older.
        self.updates = self.state.updates.subscribe();
        let (text, end, _) = view::update_json(&self.state.collector, &self.state.program, None);
        self.received = Some(end);
        frame(&text)
    }
}

/// `/api/events`.
pub(super) async fn events(State(state): State<Arc<ServerState>>) -> Response {
    let Ok(permit) = Arc::clone(&state.pages).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let updates = state.updates.subscribe();
    state.has_pages.notify_one();
    let page = PageStream { state, updates, received: None, _permit: permit };
    let frames = stream::unfold(page, async |mut page| {
        let frame = page.next().await?;
        Some((Ok::<_, Infallible>(frame), page))
    });
    typed("text/event-stream", Body::from_stream(frames))
}
