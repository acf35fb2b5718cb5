//! How the dashboard is asked: a thread of its own with an async runtime, which serves pages, JSON and a stream of updates.
//!
//! # What is always true
//!
//! 1. A thread that runs tasks waits for no page and no socket. It may wait for the lock of the store, where a run starts or ends and where
//!    a task fails, while what an update or an answer is made of is gathered. An update is made once for all pages, at most every
//!    [`TICK`], and only while there are pages.
//! 2. A page that does not read misses updates, and is sent the whole state when it reads again. At most [`MAX_MISSED`] updates wait for it.
//! 3. Who asks under a name that is not this machine's gets nothing: a page of another site can make its own name mean this address, but its
//!    requests carry that name.
//! 4. There are only reads, but for two requests: to cancel a run, and to restart a worker process. They need the token, in a header, and a
//!    header that no form can send.
//! 5. Memory is bounded, whatever is asked for: there are at most [`MAX_CONNECTIONS`], each with one answer at a time; answers that may be
//!    large are made and sent [`MAX_LARGE`] at a time. Who has asked for nothing, or read nothing of an answer, for [`PATIENCE`] is cut off
//!    and makes room.
//! 6. What takes longer than a few milliseconds is done on another thread, [`MAX_WORK`] at a time, so that updates go on meanwhile.

use super::collector::{Collector, TrackedRun};
use super::token::Token;
use super::view::{self, Cursor, Filter};
use crate::diagnostics::profile::Profile;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use futures_util::stream;
use std::convert::Infallible;
use std::future::IntoFuture;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, oneshot};
use tokio::time::{Instant, Sleep};

/// Four times per second looks live and costs little.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two updates when nothing happens: so that pages know that somebody is there, and gone ones are noticed.
const IDLE_TICKS: u32 = 8;
const MAX_MISSED: usize = 4;
/// Pages that are kept up to date at once.
const MAX_PAGES: usize = 256;
/// More than pages that are kept up to date, so that these leave room for others.
const MAX_CONNECTIONS: usize = 320;
/// Long for a person who has put a program on hold, too.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_LISTED: usize = 2_000;
const MAX_LARGE: usize = 4;
const MAX_WORK: usize = 2;
/// How often processors and memory are looked at, at least, while there are runs: reports show it.
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

/// A header that a page of another site cannot send without asking first, which is refused.
const ACTION: &str = "x-sprang-action";

/// What all pages are sent.
struct Update {
    from: Cursor,
    to: Cursor,
    frame: Bytes,
}

struct Site {
    collector: Arc<Collector>,
    program: String,
    bound: IpAddr,
    updates: broadcast::Sender<Arc<Update>>,
    has_pages: Notify,
    pages: Arc<Semaphore>,
    work: Semaphore,
    large: Arc<Semaphore>,
    token: Arc<Token>,
}

/// The thread, until it is dropped.
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
        let site = Arc::new(Site {
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
        let thread = thread::Builder::new()
            .name("sprang dashboard".to_owned())
            .spawn(move || run(runtime, listener, site, stopped))?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropping the sender says as much as sending.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the dashboard had panicked");
        }
    }
}

fn run(runtime: Runtime, listener: TcpListener, site: Arc<Site>, stopped: oneshot::Receiver<()>) {
    let _stopped = runtime.block_on(async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                // What panics in these ends with them, not with this thread.
                let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
                let listener = Limited { listener, room, patience: PATIENCE };
                tokio::spawn(axum::serve(listener, router(Arc::clone(&site))).into_future());
                tokio::spawn(sample_resources(Arc::clone(&site.collector)));
                tokio::spawn(tell_pages(site));
            }
            Err(error) => log::error!("the dashboard cannot serve: {error}"),
        }
        stopped.await
    });
    // Closes every connection. A report that is being made is not waited for.
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

/// Takes no more connections at once than there is room for. Others wait until one is closed.
struct Limited {
    listener: tokio::net::TcpListener,
    room: Arc<Semaphore>,
    patience: Duration,
}

struct Connection {
    stream: TcpStream,
    patience: Duration,
    /// When it ends, if it is still [waited](Connection::waits) for then.
    end: Pin<Box<Sleep>>,
    waits: Waits,
    _permit: Option<OwnedSemaphorePermit>,
}

/// What is waited for no longer than there is patience.
#[derive(Clone, Copy, PartialEq)]
enum Waits {
    Request,
    /// Between requests, and for what is yet to happen, there is no hurry.
    Nothing,
    Reader,
}

impl Connection {
    fn new(stream: TcpStream, patience: Duration, permit: Option<OwnedSemaphorePermit>) -> Self {
        let end = Box::pin(tokio::time::sleep(patience));
        Connection { stream, patience, end, waits: Waits::Request, _permit: permit }
    }

    fn has_ended(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.end.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }

    /// Something was to be written, and was or was not.
    fn wrote<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = Waits::Nothing;
            return written;
        }
        if self.waits != Waits::Reader {
            self.waits = Waits::Reader;
            self.end.as_mut().reset(Instant::now() + self.patience);
        }
        self.has_ended(cx).map(Err)
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // It is never closed, so there is a permit.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, self.patience, permit), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() && self.waits == Waits::Request {
            return self.has_ended(cx).map(Err);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new()
        .route(
            "/api/status",
            get(async |State(site): State<Arc<Site>>| json(view::status_json(&site.collector, &site.program))),
        )
        .route("/api/runs", get(async |State(site): State<Arc<Site>>| json(view::runs_json(&site.collector))))
        .route("/api/runs/{run}/graph", get(graph))
        .route("/api/runs/{run}/stages", get(stages))
        .route("/api/runs/{run}/tasks/{task}", get(task))
        .route("/api/runs/{run}/report.html", get(report))
        .route("/api/runs/{run}/trace.json", get(trace))
        .route("/api/runs/{run}/cancel", post(cancel))
        .route("/api/tasks", get(tasks))
        .route("/api/waiting", get(waiting))
        .route("/api/workers", get(async |State(site): State<Arc<Site>>| json(view::workers_json(&site.collector))))
        .route("/api/workers/{pid}/restart", post(restart))
        .route("/api/log", get(async |State(site): State<Arc<Site>>| json(view::log_json(&site.collector))))
        .route("/api/events", get(events))
        .route("/metrics", get(metrics))
        .route("/health", get(async || typed("text/plain; charset=utf-8", "ok\n")));
    for (path, kind, text) in ASSETS {
        router = router.route(path, get(async move || typed(kind, text)));
    }
    router.layer(middleware::from_fn_with_state(Arc::clone(&site), guard)).with_state(site)
}

fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body.into()).into_response()
}

fn json(text: String) -> Response {
    typed("application/json", text)
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    typed("application/openmetrics-text; version=1.0.0; charset=utf-8", view::metrics(&site.collector))
}

async fn tasks(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response {
    match filter(query.as_deref().unwrap_or("")) {
        Ok(filter) => json(view::tasks_json(&site.collector, &filter)),
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

async fn waiting(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response {
    match filter(query.as_deref().unwrap_or("")) {
        Ok(filter) => {
            let made = site.aside(move |collector| Some(view::waiting_json(collector, &filter))).await;
            made.map_or_else(|| unknown("list"), json)
        }
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

// ---- a single run ----

impl Site {
    /// Does on another thread what takes a while.
    async fn aside<R: Send + 'static>(&self, work: impl FnOnce(&Collector) -> Option<R> + Send + 'static) -> Option<R> {
        let _permit = self.work.acquire().await.ok()?;
        let collector = Arc::clone(&self.collector);
        // What panics there is missing here.
        tokio::task::spawn_blocking(move || work(&collector)).await.ok()?
    }
}

fn unknown(what: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("there is no such {what}, or nothing of it is kept any more\n")).into_response()
}

/// A view of a run and of when it ended.
async fn of_run(
    site: &Site,
    run: u64,
    what: &str,
    view: impl FnOnce(&Collector, &TrackedRun, Option<u64>) -> Option<String> + Send + 'static,
) -> Response {
    let made = site.aside(move |collector| {
        let (run, ended_ns) = collector.run(run)?;
        view(collector, &run, ended_ns)
    });
    made.await.map_or_else(|| unknown(what), json)
}

async fn graph(State(site): State<Arc<Site>>, Path(run): Path<u64>) -> Response {
    of_run(&site, run, "graph", |_, run, _| view::graph_json(run)).await
}

async fn stages(State(site): State<Arc<Site>>, Path(run): Path<u64>) -> Response {
    of_run(&site, run, "graph", view::stages_json).await
}

async fn task(State(site): State<Arc<Site>>, Path((run, task)): Path<(u64, u32)>) -> Response {
    of_run(&site, run, "task", move |_, run, _| view::task_json(run, task)).await
}

async fn report(State(site): State<Arc<Site>>, Path(run): Path<u64>) -> Response {
    download(&site, run, "text/html; charset=utf-8", "report.html", |profile| profile.to_html()).await
}

async fn trace(State(site): State<Arc<Site>>, Path(run): Path<u64>) -> Response {
    download(&site, run, "application/json", "trace.json", |profile| profile.to_chrome_trace()).await
}

/// A file to be saved: the report has scripts of its own, and is not to run them here.
async fn download(
    site: &Site,
    run: u64,
    kind: &'static str,
    name: &str,
    make: impl FnOnce(&Profile) -> String + Send + 'static,
) -> Response {
    let Ok(permit) = Arc::clone(&site.large).try_acquire_owned() else {
        let message = "others are downloading; try again in a moment\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], message).into_response();
    };
    let Some(text) = site.aside(move |collector| Some(make(&collector.profile(run)?))).await else {
        return unknown("report");
    };
    let len = text.len();
    let rest = Bytes::from(text);
    // The permit goes with the last piece, or with the connection.
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

/// What keeps a request from changing something; the guard has looked at where it comes from.
fn refusal(site: &Site, headers: &HeaderMap, wanted: &str) -> Option<Response> {
    if headers.get(ACTION).is_none_or(|action| action != wanted) {
        let message = format!("give the header `X-Sprang-Action: {wanted}`\n");
        return Some((StatusCode::BAD_REQUEST, message).into_response());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_right = given.and_then(|given| given.strip_prefix("Bearer ")).is_some_and(|given| site.token.is(given));
    let message = "give the token of the dashboard as `Authorization: Bearer ...`; the program has it\n";
    (!is_right).then(|| (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], message).into_response())
}

async fn cancel(State(site): State<Arc<Site>>, Path(run): Path<u64>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&site, &headers, "cancel") {
        return refusal;
    }
    if site.collector.is_cluster(run) {
        return (StatusCode::CONFLICT, "futures are cancelled one by one, by the program\n").into_response();
    }
    match site.aside(move |collector| collector.cancel(run)).await {
        Some(true) => (StatusCode::ACCEPTED, json("{\"cancelled\":true}".to_owned())).into_response(),
        Some(false) => (StatusCode::CONFLICT, "the run is over\n").into_response(),
        None => unknown("run"),
    }
}

async fn restart(State(site): State<Arc<Site>>, Path(pid): Path<u32>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&site, &headers, "restart") {
        return refusal;
    }
    match site.aside(move |collector| collector.restart(pid)).await {
        Some(true) => (StatusCode::ACCEPTED, json("{\"restarted\":true}".to_owned())).into_response(),
        Some(false) => (StatusCode::CONFLICT, "the process has ended\n").into_response(),
        None => unknown("worker process"),
    }
}

fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter { limit: 100, ..Filter::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
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

/// A value of a query as it was before it was escaped.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, others @ ..] = rest {
        let escaped = match (first, others) {
            (b'%', [high, low, ..]) => char::from(*high)
                .to_digit(16)
                .zip(char::from(*low).to_digit(16))
                .map(|(high, low)| (high * 16 + low) as u8),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

// ---- updates ----

/// Makes updates while there are pages.
async fn tell_pages(site: Arc<Site>) {
    let mut told = Cursor::default();
    let mut num_idle: u32 = 0;
    let mut had_runs = false;
    loop {
        while site.updates.receiver_count() == 0 {
            site.has_pages.notified().await;
        }
        tokio::time::sleep(TICK).await;
        let (text, to, has_runs) = view::update_json(&site.collector, &site.program, Some(told));
        num_idle = if to == told && !has_runs && !had_runs { num_idle + 1 } else { 0 };
        had_runs = has_runs;
        if !num_idle.is_multiple_of(IDLE_TICKS) {
            continue;
        }
        // Nobody may be there any more.
        let _told = site.updates.send(Arc::new(Update { from: told, to, frame: frame(&text) }));
        told = to;
    }
}

fn frame(text: &str) -> Bytes {
    // JSON has no line breaks but in strings, where they are escaped.
    format!("event: update\ndata: {text}\n\n").into()
}

/// One page that is kept up to date.
struct Page {
    site: Arc<Site>,
    updates: broadcast::Receiver<Arc<Update>>,
    told: Option<Cursor>,
    _permit: OwnedSemaphorePermit,
}

impl Page {
    async fn next(&mut self) -> Option<Bytes> {
        let Some(mut told) = self.told else { return Some(self.whole()) };
        loop {
            match self.updates.recv().await {
                // It was made before the page was told everything.
                Ok(update) if update.to.task < told.task || update.to.event < told.event => {}
                Ok(update) if update.from.task > told.task || update.from.event > told.event => {
                    return Some(self.whole());
                }
                Ok(update) => {
                    told = update.to;
                    self.told = Some(told);
                    return Some(update.frame.clone());
                }
                Err(RecvError::Lagged(_)) => return Some(self.whole()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn whole(&mut self) -> Bytes {
        // What waits is older.
        self.updates = self.site.updates.subscribe();
        let (text, told, _) = view::update_json(&self.site.collector, &self.site.program, None);
        self.told = Some(told);
        frame(&text)
    }
}

async fn events(State(site): State<Arc<Site>>) -> Response {
    let Ok(permit) = Arc::clone(&site.pages).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let updates = site.updates.subscribe();
    site.has_pages.notify_one();
    let page = Page { site, updates, told: None, _permit: permit };
    let frames = stream::unfold(page, async |mut page| {
        let frame = page.next().await?;
        Some((Ok::<_, Infallible>(frame), page))
    });
    typed("text/event-stream", Body::from_stream(frames))
}

// ---- who may ask ----

async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let is_known = |host: &str| is_this_machine(host, site.bound);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !request.uri().host().is_none_or(is_known) || !may_ask(request.headers(), is_read, &is_known) {
        let message = "the dashboard answers only to the address it listens on, and to pages of its own\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

fn may_ask(headers: &HeaderMap, is_read: bool, is_known: &impl Fn(&str) -> bool) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut hosts = headers.get_all(header::HOST).iter();
    let has_known_host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_known),
        _ => false,
    };
    let has_known_origin = match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            // Not any page of this machine: one of the dashboard's own.
            host.is_some_and(|host| is_known(host) && Some(host) == text("host"))
        }
    };
    // A link from elsewhere may lead here; a page elsewhere may not use what is here, nor may its forms.
    let is_from_elsewhere = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
    let is_link = is_read && text("sec-fetch-mode") == Some("navigate");
    has_known_host && has_known_origin && (!is_from_elsewhere || is_link)
}

/// Whether a host, perhaps with a port, is a name of this machine that no one else can give away. The port is not looked at: it may be
/// forwarded.
fn is_this_machine(host: &str, bound: IpAddr) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.');
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address == bound || bound.is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// Binds the first free port from that of the address on.
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
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn who_asks_for_nothing_or_does_not_read_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _in_runtime = runtime.enter();
        let patience = Duration::from_millis(200);
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let listener = Limited { listener, room: Arc::new(Semaphore::new(4)), patience };
        let large = async || Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![0; 1 << 20])));
        let router = Router::new().route("/small", get(async || "small")).route("/large", get(large));
        runtime.spawn(axum::serve(listener, router).into_future());

        let mut silent = std::net::TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it is cut off");
        let mut slow = std::net::TcpStream::connect(address).unwrap();
        slow.write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        assert!(slow.read(&mut answer).unwrap() > 0);
        thread::sleep(3 * patience);
        slow.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(slow.read(&mut answer).unwrap() > 0, "between two requests there is no hurry");
        let mut num_read = 0;
        thread::sleep(3 * patience);
        // What the system has taken comes, and no more.
        while let Ok(len @ 1..) = slow.read(&mut answer) {
            num_read += len;
            assert!(num_read < 1 << 30, "it goes on for ever");
        }
    }

    #[test]
    fn names_of_this_machine_are_told_from_those_of_others() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1:8787",
            "127.9.9.9",
            "[::1]:8787",
            "[::1]",
        ] {
            assert!(is_this_machine(host, loopback), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:8787",
            "10.0.0.1",
            "0.0.0.0",
            "127.0.0.1.evil.example",
            "[::2]:1",
        ] {
            assert!(!is_this_machine(host, loopback), "{host}");
        }
        assert!(is_this_machine("10.0.0.1:8787", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert!(is_this_machine("10.0.0.1:8787", IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        assert!(!is_this_machine("evil.example", IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    }

    #[test]
    fn queries_are_read_or_refused() {
        let wanted = filter("limit=7&search=Load+%231%&state=failed&run=3").unwrap();
        assert_eq!((wanted.limit, wanted.search.as_deref(), wanted.run), (7, Some("load #1%"), Some(3)));
        assert_eq!(wanted.state.as_deref(), Some("failed"));
        assert_eq!(filter("limit=99999999").unwrap().limit, MAX_LISTED);
        assert_eq!(filter("").unwrap().limit, 100);
        assert!(filter("limit=-1").unwrap_err().starts_with("limit is a whole number"));
        assert!(filter("state=odd").is_err() && filter("what=1").is_err());
        assert_eq!(decoded("%e2%9c%93%f"), "✓%f");
    }
}
