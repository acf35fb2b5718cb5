//! A live view of the runs of this process, in a browser; with the feature `dashboard`.
//!
//! [`serve`] watches all runs of the process that start after it, and shows them on its pages: the
//! task stream, counts and progress bars by name, running tasks, graphs, recent tasks, runs,
//! workers and a log, and reports to download. The same data is available as JSON, as a stream of
//! events and as OpenMetrics; `docs/dashboard.md` in the repository has the schema.
//!
//! The setting `dashboard` does the same as [`serve`], without code in the program: the first
//! compute that finds an address there starts [the dashboard of the process](of_the_process).
//!
//! The `collector` records runs, with `value_bytes` for the bytes of values and `resources` for
//! processors and memory. The `view` makes answers from these records, and the `server` sends them.
//! The `token` authorizes the requests that change something.

mod collector;
mod resources;
mod server;
mod token;
mod value_bytes;
mod view;

use crate::engine::callback::{self, Registration};
use crate::error::{Error, Result};
use collector::Collector;
use server::Server;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use token::Token;

/// Shows all runs of this process that start from now on, at this address, until the guard is
/// dropped.
///
/// The address is an IP address or a name with a port: `127.0.0.1:8787`, `localhost:8787`,
/// `[::1]:8787`; or only a port, `:8787`, on the loopback address. With port 0 the system chooses
/// the port. If the port is taken, the next free one of a hundred is used; [`Dashboard::url`]
/// returns it, and a warning is logged.
///
/// Only programs of this machine can read a dashboard on the loopback address. Reading needs no
/// password: anyone who can connect to a dashboard on another address can read the names of tasks
/// and the messages of errors. Requests under a host name other than `localhost` are refused, so
/// that no page of another site can read the dashboard. Two actions need the
/// [token](Dashboard::token): to cancel a run, and to restart a worker process.
///
/// Runs do not wait for pages. Each task takes a lock of its worker and updates some counters. The
/// start and the end of a run, including a run of futures, wait at most until an update or an
/// answer has been gathered, which takes some milliseconds. The dashboard limits its memory.
///
/// # Examples
/// ```
/// use sprang::{Refs, dashboard, delayed};
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// let dashboard = dashboard::serve("127.0.0.1:0")?;
/// assert!(dashboard.url().starts_with("http://127.0.0.1:"));
///
/// let square = |i: u64| delayed(|i| i * i, (i,)).name(format!("square {i}"));
/// let squares: Vec<_> = (0..10).map(square).collect();
/// delayed(|all: Refs<u64>| all.iter().sum::<u64>(), (&squares,)).name("sum").compute()?;
///
/// // A request as a browser sends it.
/// let mut stream = TcpStream::connect(dashboard.address()).unwrap();
/// let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// stream.write_all(head.as_bytes()).unwrap();
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer).unwrap();
/// assert!(answer.contains("sprang_runs_total{outcome=\"finished\"} 1"), "{answer}");
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// If the address cannot be parsed, or the dashboard cannot listen on it.
pub fn serve(address: impl AsRef<str>) -> Result<Dashboard> {
    let text = address.as_ref().trim();
    let wanted = parse(text)?;
    let fail = |error: std::io::Error| {
        Error::config(format!("the dashboard cannot listen on {wanted}: {error}"))
            .with_source(Arc::new(error) as Arc<_>)
    };
    let listener = server::bind(wanted).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let collector = Arc::new(Collector::new());
    let token = Arc::new(Token::new().map_err(fail)?);
    let server = Server::start(listener, Arc::clone(&collector), program.unwrap_or_default(), Arc::clone(&token));
    let (_server, _registration) = (server.map_err(fail)?, callback::register(Arc::<Collector>::clone(&collector)));
    let dashboard = Dashboard { address, token, _registration, _server };
    let url = dashboard.url();
    log::info!("the dashboard is at {url}");
    if wanted.port() != 0 && wanted.port() != address.port() {
        log::warn!("port {} is taken; the dashboard is at {url}", wanted.port());
    }
    if !address.ip().is_loopback() {
        log::warn!("everybody who can connect to {address} can read the dashboard");
    }
    collector.log("dashboard started", &url);
    Ok(dashboard)
}

/// The dashboard that the setting `dashboard` has started; `None` if it has started none.
///
/// # Examples
/// ```
/// use sprang::{config, dashboard, delayed};
///
/// assert!(dashboard::of_the_process().is_none());
/// config::set("dashboard", "127.0.0.1:0")?;
/// delayed(|| 1, ()).compute()?;
/// let dashboard = dashboard::of_the_process().expect("the compute started it");
/// println!("the token of {} is {}", dashboard.url(), dashboard.token());
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn of_the_process() -> Option<&'static Dashboard> {
    OF_THE_PROCESS.get().and_then(Option::as_ref)
}

/// Holds `None` if the dashboard could not be started. That is tried once.
static OF_THE_PROCESS: OnceLock<Option<Dashboard>> = OnceLock::new();

/// Starts the dashboard of the process, unless that was tried before.
pub(crate) fn serve_process(address: &str) {
    OF_THE_PROCESS.get_or_init(|| {
        let dashboard = serve(address);
        match &dashboard {
            Ok(dashboard) => {
                log::info!("the token for cancelling runs and restarting workers is {}", dashboard.token())
            }
            Err(error) => log::error!("there is no dashboard: {error}"),
        }
        dashboard.ok()
    });
}

/// Parses an address.
fn parse(text: &str) -> Result<SocketAddr> {
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let bad = || {
        Error::config(format!("{text:?} is not an address for the dashboard; an example of one is \"127.0.0.1:8787\""))
    };
    let mut addresses = text.to_socket_addrs().map_err(|error| bad().with_source(Arc::new(error) as Arc<_>))?;
    addresses.next().ok_or_else(bad)
}

/// A dashboard, served until this guard is dropped. Made by [`serve`]. [`std::mem::forget`] keeps
/// it for the life of the program.
#[must_use = "the dashboard is served until this guard is dropped: bind it, `let _dashboard = ...`"]
pub struct Dashboard {
    address: SocketAddr,
    token: Arc<Token>,
    // Dropped in this order: the events stop, then the server.
    _registration: Registration,
    _server: Server,
}

impl Dashboard {
    /// The address that the dashboard listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for a browser of this machine.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        format!("http://{}/", SocketAddr::new(ip, self.address.port()))
    }

    /// The token for cancelling runs and restarting worker processes. The pages ask for it, and
    /// requests carry it as `Authorization: Bearer ...`. Each dashboard has a new one.
    pub fn token(&self) -> &str {
        self.token.as_str()
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard").field("address", &self.address).finish_non_exhaustive()
    }
}
