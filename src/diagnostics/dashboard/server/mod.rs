//! The server: a thread with an async runtime, which serves pages, JSON and a stream of updates.
//!
//! # What is always true
//!
//! 1. A thread that runs tasks never waits for a page or a socket. At the start and the end of a
//!    run, and when a task fails, it may wait for the lock of the store while an update or an
//!    answer is gathered. One update is made for all pages, at most every [`TICK`], and only while
//!    there are pages.
//! 2. A page that does not read misses updates, and is sent the whole state when it reads again. At
//!    most [`MAX_MISSED`] updates wait for it.
//! 3. A request whose host is not a name of this machine is refused. A page of another site can
//!    make its own name resolve to this address, but its requests carry that name.
//! 4. Requests only read, with two exceptions: to cancel a run, and to restart a worker process.
//!    These need the token, in a header, and a header that no form can send.
//! 5. Memory is bounded for any requests: there are at most [`MAX_CONNECTIONS`], each with one
//!    answer at a time, and large answers are made and sent [`MAX_LARGE`] at a time. A connection
//!    without a request, or whose peer reads nothing of an answer, is closed after [`PATIENCE`].
//! 6. Work that takes longer than a few milliseconds runs on other threads, [`MAX_WORK`] at a time,
//!    so that it does not delay updates.

mod access;
mod connection;
mod updates;

use super::collector::{Collector, TrackedRun};
use super::token::Token;
use super::view::{self, Filter};
use crate::diagnostics::profile::Profile;
use crate::per_process::{Generation, spawn};
use access::refusal;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use connection::LimitedListener;
use futures_util::stream;
use percent_encoding::percent_decode_str;
use std::convert::Infallible;
use std::future::IntoFuture;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Notify, Semaphore, broadcast, oneshot};

/// The time between two updates. Four updates per second look live and cost little.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two updates when nothing happens. They show the pages that the server is alive,
/// and the server that a page is gone.
const IDLE_TICKS: u32 = 8;
const MAX_MISSED: usize = 4;
/// Pages that receive updates at once.
const MAX_PAGES: usize = 256;
/// More than [`MAX_PAGES`], which leaves room for other requests.
const MAX_CONNECTIONS: usize = 320;
/// Long enough for a client that a person has suspended.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tasks in one list.
const MAX_LISTED: usize = 2_000;
const MAX_LARGE: usize = 4;
const MAX_WORK: usize = 2;
/// The time between two samples of processors and memory while there are runs, for their reports.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

const ASSETS: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("../assets/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../assets/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../assets/app.js")),
    ("/graph.js", "text/javascript; charset=utf-8", include_str!("../assets/graph.js")),
    ("/parts.js", "text/javascript; charset=utf-8", include_str!("../assets/parts.js")),
    ("/stream.js", "text/javascript; charset=utf-8", include_str!("../assets/stream.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

type Shared = State<Arc<ServerState>>;

/// The state that all requests share.
struct ServerState {
    collector: Arc<Collector>,
    program: String,
    bound: IpAddr,
    updates: broadcast::Sender<Arc<updates::Update>>,
    has_pages: Notify,
    pages: Arc<Semaphore>,
    work: Semaphore,
    large: Arc<Semaphore>,
    token: Arc<Token>,
}

/// Stops the thread when it is dropped.
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    generation: Generation,
}

impl Server {
    pub(super) fn start(
        listener: TcpListener,
        collector: Arc<Collector>,
        program: String,
        token: Arc<Token>,
    ) -> io::Result<Server> {
        let bound = listener.local_addr()?.ip();
        listener.set_nonblocking(true)?;
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (updates, _) = broadcast::channel(MAX_MISSED);
        let state = Arc::new(ServerState {
            collector,
            program,
            bound,
            updates,
            has_pages: Notify::new(),
            pages: Arc::new(Semaphore::new(MAX_PAGES)),
            work: Semaphore::new(MAX_WORK),
            large: Arc::new(Semaphore::new(MAX_LARGE)),
            token,
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("sprang dashboard".to_owned());
        let thread = spawn(thread, move || run(runtime, listener, state, stopped))?;
        Ok(Server { stop: Some(stop), thread: Some(thread), generation: Generation::current() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.generation.is_current() {
            // A forked child does not have the thread, whose locks may be held.
            std::mem::forget((self.stop.take(), self.thread.take()));
            return;
        }
        // The thread stops when the sender is gone.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the dashboard panicked");
        }
    }
}

fn run(runtime: Runtime, listener: TcpListener, state: Arc<ServerState>, stopped: oneshot::Receiver<()>) {
    let _stopped = runtime.block_on(async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                // A panic ends one of these, and not this thread.
                let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
                let listener = LimitedListener { listener, permits, patience: PATIENCE };
                tokio::spawn(axum::serve(listener, router(Arc::clone(&state))).into_future());
                tokio::spawn(sample_resources(Arc::clone(&state.collector)));
                tokio::spawn(updates::send_updates(state));
            }
            Err(error) => log::error!("the dashboard cannot serve: {error}"),
        }
        stopped.await
    });
    // Closes every connection, and does not wait for reports that are being made.
    runtime.shutdown_background();
}

async fn sample_resources(collector: Arc<Collector>) {
    loop {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        if collector.has_live_runs() {
            collector.sample_resources();
            collector.sample_values();
        }
    }
}

fn router(state: Arc<ServerState>) -> Router {
    let mut router = Router::new()
        .route("/api/status", get(async |State(it): Shared| json(view::status_json(&it.collector, &it.program))))
        .route("/api/runs", get(async |State(it): Shared| json(view::runs_json(&it.collector))))
        .route("/api/runs/{run}/graph", get(graph))
        .route("/api/runs/{run}/stages", get(stages))
        .route("/api/runs/{run}/tasks/{task}", get(task))
        .route("/api/runs/{run}/report.html", get(report))
        .route("/api/runs/{run}/trace.json", get(trace))
        .route("/api/runs/{run}/cancel", post(cancel))
        .route("/api/tasks", get(tasks))
        .route("/api/waiting", get(waiting))
        .route("/api/workers", get(async |State(it): Shared| json(view::workers_json(&it.collector))))
        .route("/api/workers/{pid}/restart", post(restart))
        .route("/api/log", get(async |State(it): Shared| json(view::log_json(&it.collector))))
        .route("/api/events", get(updates::events))
        .route("/metrics", get(metrics))
        .route("/health", get(async || typed("text/plain; charset=utf-8", "ok\n")));
    for (path, kind, text) in ASSETS {
        router = router.route(path, get(async move || typed(kind, text)));
    }
    router.layer(middleware::from_fn_with_state(Arc::clone(&state), access::guard)).with_state(state)
}

fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body.into()).into_response()
}

fn json(text: String) -> Response {
    typed("application/json", text)
}

async fn metrics(State(state): Shared) -> Response {
    typed("application/openmetrics-text; version=1.0.0; charset=utf-8", view::metrics(&state.collector))
}

async fn tasks(State(state): Shared, RawQuery(query): RawQuery) -> Response {
    match filter(query.as_deref().unwrap_or("")) {
        Ok(filter) => json(view::tasks_json(&state.collector, &filter)),
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

async fn waiting(State(state): Shared, RawQuery(query): RawQuery) -> Response {
    match filter(query.as_deref().unwrap_or("")) {
        Ok(filter) => {
            let made = state.offload(move |collector| Some(view::waiting_json(collector, &filter))).await;
            made.map_or_else(|| not_found("list"), json)
        }
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

// ---- a single run ----

impl ServerState {
    /// Does work that takes a while on another thread. `None` if there is no result or the work
    /// panics.
    async fn offload<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Collector) -> Option<R> + Send + 'static,
    ) -> Option<R> {
        let _permit = self.work.acquire().await.ok()?;
        let collector = Arc::clone(&self.collector);
        tokio::task::spawn_blocking(move || work(&collector)).await.ok()?
    }
}

fn not_found(kind: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("there is no such {kind}, or it is no longer kept\n")).into_response()
}

/// An answer about one run. `view` also gets the time at which the run ended.
async fn of_run(
    state: &ServerState,
    run: u64,
    kind: &str,
    view: impl FnOnce(&Collector, &TrackedRun, Option<u64>) -> Option<String> + Send + 'static,
) -> Response {
    let made = state.offload(move |collector| {
        let (run, ended_ns) = collector.run(run)?;
        view(collector, &run, ended_ns)
    });
    made.await.map_or_else(|| not_found(kind), json)
}

async fn graph(State(state): Shared, Path(run): Path<u64>) -> Response {
    of_run(&state, run, "graph", |_, run, _| view::graph_json(run)).await
}

async fn stages(State(state): Shared, Path(run): Path<u64>) -> Response {
    of_run(&state, run, "graph", view::stages_json).await
}

async fn task(State(state): Shared, Path((run, task)): Path<(u64, u32)>) -> Response {
    of_run(&state, run, "task", move |_, run, _| view::task_json(run, task)).await
}

async fn report(State(state): Shared, Path(run): Path<u64>) -> Response {
    download(&state, run, "text/html; charset=utf-8", "report.html", |profile| profile.to_html()).await
}

async fn trace(State(state): Shared, Path(run): Path<u64>) -> Response {
    download(&state, run, "application/json", "trace.json", |profile| profile.to_chrome_trace()).await
}

/// An answer that browsers save to a file. A report has scripts, which must not run in the origin
/// of the dashboard.
async fn download(
    state: &ServerState,
    run: u64,
    kind: &'static str,
    name: &str,
    make: impl FnOnce(&Profile) -> String + Send + 'static,
) -> Response {
    let Ok(permit) = Arc::clone(&state.large).try_acquire_owned() else {
        let message = "too many downloads are in progress; try again in a moment\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], message).into_response();
    };
    let Some(text) = state.offload(move |collector| Some(make(&collector.profile(run)?))).await else {
        return not_found("report");
    };
    let len = text.len();
    let rest = Bytes::from(text);
    // The permit is released after the last piece, or with the connection.
    let pieces = stream::unfold((rest, permit), async |(mut rest, permit)| {
        let piece = rest.split_to(rest.len().min(64 << 10));
        (!piece.is_empty()).then(|| (Ok::<_, Infallible>(piece), (rest, permit)))
    });
    let mut response = typed(kind, Body::from_stream(pieces));
    let disposition = format!("attachment; filename=\"sprang-run-{run}-{name}\"");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, len.into());
    headers.extend(HeaderValue::try_from(disposition).map(|value| (header::CONTENT_DISPOSITION, value)));
    response
}

async fn cancel(State(state): Shared, Path(run): Path<u64>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&state, &headers, "cancel") {
        return refusal;
    }
    if state.collector.is_cluster(run) {
        return (StatusCode::CONFLICT, "futures can only be cancelled one by one, by the program\n").into_response();
    }
    match state.offload(move |collector| collector.cancel(run)).await {
        Some(true) => (StatusCode::ACCEPTED, json("{\"cancelled\":true}".to_owned())).into_response(),
        Some(false) => (StatusCode::CONFLICT, "the run has ended\n").into_response(),
        None => not_found("run"),
    }
}

async fn restart(State(state): Shared, Path(pid): Path<u32>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&state, &headers, "restart") {
        return refusal;
    }
    match state.offload(move |collector| collector.restart(pid)).await {
        Some(true) => (StatusCode::ACCEPTED, json("{\"restarted\":true}".to_owned())).into_response(),
        Some(false) => (StatusCode::CONFLICT, "the process has ended\n").into_response(),
        None => not_found("worker process"),
    }
}

/// Parses the query of a list.
fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter { limit: 100, ..Filter::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
        let number = || value.parse::<u64>().map_err(|_| format!("{key} is a whole number, not {value:?}\n"));
        match key {
            "limit" => filter.limit = number()?.min(MAX_LISTED as u64) as usize,
            "run" => filter.run = Some(number()?),
            "search" => filter.search = Some(value.to_lowercase()).filter(|search| !search.is_empty()),
            "state" => match value.as_str() {
                "" => {}
                "finished" | "failed" | "retried" | "cancelled" => filter.state = Some(value),
                _ => return Err(format!("state is finished, failed, retried or cancelled, not {value:?}\n")),
            },
            _ => return Err(format!("there is no {key:?}: give limit, run, search or state\n")),
        }
    }
    Ok(filter)
}

/// Binds the port of the address or, if it is taken, the next free one.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    /// Ports that are tried.
    const NUM_PORTS: u16 = 100;
    let mut port = address.port();
    loop {
        match TcpListener::bind(SocketAddr::new(address.ip(), port)) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && port - address.port() + 1 < NUM_PORTS
                    && port < u16::MAX =>
            {
                port += 1;
            }
            bound => return bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused() {
        let wanted = filter("limit=7&search=Load+%231%&state=failed&run=3").unwrap();
        assert_eq!((wanted.limit, wanted.search.as_deref(), wanted.run), (7, Some("load #1%"), Some(3)));
        assert_eq!(wanted.state.as_deref(), Some("failed"));
        assert_eq!(filter("limit=99999999").unwrap().limit, MAX_LISTED);
        assert_eq!(filter("").unwrap().limit, 100);
        assert!(filter("limit=-1").unwrap_err().starts_with("limit is a whole number"));
        assert!(filter("state=odd").is_err() && filter("what=1").is_err());
        assert_eq!(filter("search=%e2%9c%93%f").unwrap().search.as_deref(), Some("✓%f"));
    }
}
