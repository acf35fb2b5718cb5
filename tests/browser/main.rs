//! The pages of the dashboard, in a browser.
//!
//! They need Chromium and so are ignored; `scripts/check-dashboard` installs it and runs them. With
//! `DASHBOARD_PICTURES` set to a folder, what the pages look like is saved there.

mod chromium;
#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod watchdog;

use chromium::Browser;
use sprang::dashboard::{self, Dashboard};
use sprang::{
    Client, Delayed, ErrorKind, LocalCluster, Refs, TaskFuture, WaitFor, compute_each, config, delayed, delayed_local,
    try_delayed,
};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use watchdog::watched_by_steps;

/// Calls `body` with a dashboard and a browser, while no other test runs.
fn with_browser(what: &str, body: impl FnOnce(&Dashboard, &mut Browser) + Send) {
    in_turn(what, |steps| {
        let dashboard = dashboard::serve("127.0.0.1:0").unwrap();
        let mut browser = Browser::start(&dashboard.url(), steps);
        browser.size(1600, 900);
        body(&dashboard, &mut browser);
        assert_eq!(browser.complaints(), Vec::<String>::new(), "{what}");
    });
}

/// Calls `body` while no other test runs. The watchdog looks at the count that `body` gets: on a
/// busy machine a test may take long, if the browser goes on answering.
fn in_turn(what: &str, body: impl FnOnce(&Arc<AtomicU64>) + Send) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let steps = Arc::default();
    watched_by_steps(what, None, &steps, || body(&steps));
}

/// Tasks wait at it until it is opened.
#[derive(Clone, Default)]
struct Barrier(Arc<(Mutex<bool>, Condvar)>);

impl Barrier {
    fn pass(&self) {
        let (is_open, opened) = &*self.0;
        let mut is_open = is_open.lock().unwrap();
        while !*is_open && !sprang::CancelToken::current().is_cancelled() {
            is_open = opened.wait_timeout(is_open, Duration::from_millis(20)).unwrap().0;
        }
    }

    /// Opens it when the returned guard is dropped, so that no task waits for ever if a test fails.
    fn opened_at_last(&self) -> impl Drop + use<> {
        struct Open(Barrier);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.open();
            }
        }
        Open(self.clone())
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Twelve loads: six finish at once, and six wait at the barrier.
fn pipeline(barrier: &Barrier) -> Delayed<u64> {
    let parts: Vec<_> = (0..12_u64)
        .map(|i| {
            let barrier = barrier.clone();
            let load = delayed_local(
                move || {
                    if i >= 6 {
                        barrier.pass();
                    }
                    i
                },
                (),
            );
            let load = load.name(format!("load {i}"));
            delayed(|load: &u64| load + 1, (&load,)).name(format!("clean {i}"))
        })
        .collect();
    let sum = delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum");
    delayed(|sum: &u64| sum / 12, (&sum,)).name("mean")
}

fn squares(num_tasks: u64) -> Delayed<u64> {
    let parts: Vec<_> = (0..num_tasks).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
    delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum")
}

fn fails(i: u64) -> Result<u64, String> {
    if i == 3 {
        Err(format!("{i} is out of range, and this message goes on for a while to see where it is cut"))
    } else {
        Ok(i)
    }
}

/// Computes a run on threads with a failure, and a run on worker processes one of which dies.
fn history() {
    let checks: Vec<_> = (0..8_u64).map(|i| try_delayed(fails, (i,)).name(format!("check {i}"))).collect();
    let total = delayed(|checks: Refs<'_, u64>| checks.iter().sum::<u64>(), (&checks,)).name("total");
    let _errors = config::scoped("errors", "collect").unwrap();
    assert!(compute_each(&total).unwrap().is_err());
    let _workers = config::scoped("num_workers", 2).unwrap().and("processes.stdio", "capture").unwrap();
    let _limits = config::scoped("processes.memory_limit", "256 MiB").unwrap();
    // The harness of the tests does not capture this.
    let dies = delayed(die, ()).name("decode 17");
    let fine: Vec<_> = (0..40_u64).map(|i| delayed(|i: u64| i, (i,)).name(format!("decode {}", 100 + i))).collect();
    let results = sprang::prepare((&dies, &fine)).unwrap();
    let _scheduler = config::scoped("scheduler", "processes").unwrap();
    let (died, _) = results.compute_each().unwrap();
    assert_eq!(died.unwrap_err().kind(), ErrorKind::WorkerDied);
}

fn die() {
    use std::io::Write;
    let _written = std::io::stderr().write_all(b"decoder: bad header in tile 17\ndecoder: giving up\n");
    std::process::abort();
}

/// Submits futures to a cluster of two processes: many finish, some fail, and some wait until the
/// folder has a file `go`. Returns the waiting ones.
fn submit_futures(client: &Client, folder: &std::path::Path) -> Vec<TaskFuture<u64>> {
    let squares: Vec<_> = (0..400_u64)
        .map(|i| client.compute(&delayed(|i: u64| vec![i; 1_000], (i,)).name(format!("square {i}"))))
        .collect();
    client.gather(&squares).unwrap();
    let checks: Vec<_> =
        (0..8_u64).map(|i| client.compute(&try_delayed(fails, (i,)).name(format!("check {i}")))).collect();
    assert_eq!(sprang::wait(&checks, WaitFor::All).0.len(), 8);
    let folder = folder.to_str().unwrap().to_owned();
    let waits = (0..6).map(|i| client.compute(&delayed(wait_for_file, (folder.clone(),)).name(format!("wait {i}"))));
    let waits = waits.collect();
    // The handles keep the values in memory.
    std::mem::forget(squares);
    waits
}

/// Returns how many calls with this folder have started.
fn wait_for_file(folder: String) -> u64 {
    let folder = PathBuf::from(folder);
    std::fs::write(folder.join(format!("{}-{:?}", std::process::id(), std::time::Instant::now())), "").unwrap();
    while !folder.join("go").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    std::fs::read_dir(folder).unwrap().count() as u64
}

fn cluster() -> Client {
    Client::owning(LocalCluster::builder().workers(2).threads_per_worker(1).name("crew").build().unwrap())
}

/// Saves a picture, if pictures are wanted.
fn picture(browser: &mut Browser, name: &str) {
    if let Some(folder) = pictures() {
        browser.save(&folder.join(format!("{name}.png")));
    }
}

/// The folder for pictures, if they are wanted.
fn pictures() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "it says what this test leaves behind")]
    let folder = std::env::var_os("DASHBOARD_PICTURES").map(PathBuf::from);
    folder.inspect(|folder| std::fs::create_dir_all(folder).unwrap())
}

/// Controls and pictures without a name for screen readers.
const NAMELESS: &str =
    "[...document.querySelectorAll('button,a,input,select,canvas,img,[role=button],[role=img],[tabindex]')]
    .filter((it) => it.checkVisibility() && it.id !== 'main')
    .filter((it) => !(it.innerText?.trim() || it.ariaLabel || it.labels?.[0]?.innerText.trim() || it.hasAttribute('alt')
        || it.getAttribute('aria-labelledby')))
    .map((it) => it.outerHTML.slice(0, 120))";

/// Elements whose text has a lower contrast to its background than WCAG requires.
const FAINT: &str = "(() => {
    const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (it) => {
        for (; it; it = it.parentElement) {
            const color = rgb(getComputedStyle(it).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const it of document.querySelectorAll('body *:not(svg *)')) {
        if (!it.checkVisibility() || ![...it.childNodes].some((child) => child.nodeType === 3 && child.nodeValue.trim())) continue;
        const [a, b] = [light(rgb(getComputedStyle(it).color)), light(behind(it))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) faint.push(`${ratio.toFixed(1)}: ${it.outerHTML.slice(0, 100)}`);
    }
    return faint;
})()";

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn every_page_is_right_at_every_width_and_in_both_themes() {
    with_browser("every_page_is_right_at_every_width_and_in_both_themes", |dashboard, browser| {
        history();
        let folder = tempfile::tempdir().unwrap();
        let client = cluster();
        let waits = submit_futures(&client, folder.path());
        browser.open("#workers");
        with_token(browser, dashboard.token());
        let barrier = Barrier::default();
        thread::scope(|scope| {
            let _open = barrier.opened_at_last();
            let run = scope.spawn(|| {
                let _workers = config::scoped("num_workers", 3).unwrap();
                pipeline(&barrier).compute_with("threads").unwrap()
            });
            for theme in ["light", "dark"] {
                browser.theme(theme);
                for (width, height) in [(360, 740), (1600, 900)] {
                    browser.size(width, height);
                    for (page, ready) in [
                        (
                            "status",
                            "document.querySelectorAll('#progress .run').length === 2 && document.querySelector('#workers-summary td')",
                        ),
                        ("graph", "document.querySelectorAll('#graph-drawing [data-stage=\"finished\"]').length >= 12"),
                        ("tasks", "document.querySelectorAll('#tasks-table td').length > 100"),
                        ("runs", "document.querySelectorAll('#runs-table tbody tr').length === 4"),
                        (
                            "workers",
                            "document.querySelector('#workers-table pre') && document.querySelector('[data-restart]')",
                        ),
                        ("log", "document.querySelectorAll('#log-table tr').length > 10"),
                    ] {
                        browser.open(&format!("#{page}"));
                        browser.wait_for(ready);
                        let at = format!("{page} at {width} in {theme}");
                        assert_eq!(browser.complaints(), Vec::<String>::new(), "{at}");
                        let needed = browser.run("document.documentElement.scrollWidth");
                        assert!(needed.as_u64().unwrap() <= width.into(), "{at}: it is {needed} wide");
                        assert_eq!(browser.run(NAMELESS), serde_json::json!([]), "{at}");
                        assert_eq!(browser.run(FAINT), serde_json::json!([]), "{at}");
                        picture(browser, &format!("{page}-{width}-{theme}"));
                    }
                }
            }
            barrier.open();
            assert_eq!(run.join().unwrap(), 6);
        });
        std::fs::write(folder.path().join("go"), "").unwrap();
        client.gather(&waits).unwrap();
    });
}

/// Enters the token on the page.
fn with_token(browser: &mut Browser, token: &str) {
    browser.click("#token");
    browser.wait_for("document.activeElement.id === 'token-text'");
    browser.write(token);
    browser.press("Enter");
    browser.wait_for("document.querySelector('#token').innerText.includes('✓')");
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn a_worker_is_restarted_on_the_page_and_its_task_runs_again() {
    with_browser("a_worker_is_restarted_on_the_page_and_its_task_runs_again", |dashboard, browser| {
        let folder = tempfile::tempdir().unwrap();
        let client = cluster();
        let waits = submit_futures(&client, folder.path());
        browser.open("#workers");
        browser.wait_for("document.querySelectorAll('#workers-table [data-state=\"running\"]').length === 2");
        assert_eq!(browser.run("document.querySelectorAll('[data-restart]').length"), 0, "not without the token");
        with_token(browser, dashboard.token());
        browser.wait_for("document.querySelectorAll('[data-restart]').length === 2");
        let pid = browser.run("document.querySelector('[data-restart]').dataset.restart");
        browser.click("[data-restart]");
        browser.wait_for("document.querySelector('#ask-restart').open");
        assert!(browser.text("#restart-what").contains("is charged no attempt"));
        picture(browser, "dialog-restart");
        browser.click("#ask-restart [type=submit]");
        browser.wait_for("document.querySelector('#message').innerText.includes('is being restarted')");
        // The process was lost, and another one runs its task.
        browser.wait_for("document.querySelector('#workers-table').innerText.includes('was restarted')");
        let others =
            format!("[...document.querySelectorAll('[data-restart]')].every((it) => it.dataset.restart !== {pid})");
        browser.wait_for(&format!(
            "document.querySelectorAll('#workers-table [data-state=\"running\"]').length === 2 && {others}"
        ));
        std::fs::write(folder.path().join("go"), "").unwrap();
        // At least three calls have started: the two that ran, and the one that started again.
        assert!(client.gather(&waits).unwrap().into_iter().all(|num_begun| num_begun >= 4));
        browser.click("nav a[href='#log']");
        browser.wait_for("document.querySelector('#log-table').innerText.includes('restart requested')");
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn futures_are_one_entry_whose_counts_grow_and_the_bytes_of_their_values_show() {
    with_browser("futures_are_one_entry_whose_counts_grow_and_the_bytes_of_their_values_show", |dashboard, browser| {
        let folder = tempfile::tempdir().unwrap();
        let client = cluster();
        let waits = submit_futures(&client, folder.path());
        browser.open("#status");
        with_token(browser, dashboard.token());
        browser.wait_for("document.querySelectorAll('#progress .run').length === 1");
        let shown = browser.text("#progress");
        assert!(shown.contains("crew futures, processes, 408 of 414 tasks, 4 waiting"), "{shown}");
        assert!(shown.contains("square #") && shown.contains("400 / 400"), "{shown}");
        let tiles = browser.text("#tiles").replace('\n', " ");
        // 400 values of 1000 numbers of eight bytes.
        assert!(tiles.contains("Values 3.1 MiB"), "{tiles}");
        assert!(browser.text("#machine").contains("futures."), "{}", browser.text("#machine"));
        assert_eq!(browser.run("document.querySelectorAll('#progress [data-cancel]').length"), 0);
        browser.click("nav a[href='#runs']");
        browser.wait_for("document.querySelectorAll('#runs-table tbody tr').length === 1");
        let runs = browser.text("#runs-table");
        assert!(runs.contains("crew futures") && runs.contains("407 / 414") && runs.contains("report"), "{runs}");
        browser.click("nav a[href='#tasks']");
        browser.wait_for("document.querySelectorAll('#tasks-table tbody tr').length === 300");
        std::fs::write(folder.path().join("go"), "").unwrap();
        client.gather(&waits).unwrap();
        browser.click("nav a[href='#runs']");
        browser.wait_for("document.querySelector('#runs-table [data-state=\"idle\"]')");
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn a_graph_appears_while_it_runs_and_follows_the_run() {
    with_browser("a_graph_appears_while_it_runs_and_follows_the_run", |_, browser| {
        browser.open("#graph");
        browser.wait_for("document.querySelector('#graph-drawing .empty')");
        for round in 1..=3 {
            let barrier = Barrier::default();
            thread::scope(|scope| {
                let _open = barrier.opened_at_last();
                let run = scope.spawn(|| pipeline(&barrier).compute_with("threads").unwrap());
                let is_shown = "document.querySelectorAll('#graph-drawing [data-stage=\"running\"]').length > 0";
                browser.wait_for(&format!(
                    "document.querySelector('#graph-note').innerText.includes('running') && {is_shown}"
                ));
                assert_eq!(browser.run("document.querySelectorAll('#graph-drawing [data-box]').length"), 26);
                barrier.open();
                run.join().unwrap();
                browser.wait_for("document.querySelectorAll('#graph-drawing [data-stage=\"finished\"]').length === 26");
                assert!(browser.text("#graph-note").contains("26 finished"), "round {round}");
            });
        }
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn the_page_shows_why_a_task_waits() {
    with_browser("the_page_shows_why_a_task_waits", |_, browser| {
        let barrier = Barrier::default();
        thread::scope(|scope| {
            let _open = barrier.opened_at_last();
            let run = scope.spawn(|| pipeline(&barrier).compute_with("sync").unwrap());
            browser.open("#tasks");
            browser.run("(() => { const it = document.getElementById('state'); it.value = 'waiting'; it.dispatchEvent(new Event('input')); })()");
            browser.run("(() => { const it = document.getElementById('search'); it.value = 'mean'; it.dispatchEvent(new Event('input')); })()");
            browser.wait_for("document.querySelectorAll('#tasks-table tbody tr').length === 1");
            assert!(browser.text("#tasks-table tbody").contains("sum (waiting)"), "{}", browser.text("#tasks-table"));
            // By the keyboard alone: the last box is the output.
            browser.open("#graph");
            browser.wait_for("document.querySelectorAll('#graph-drawing [data-box]').length === 26");
            browser.run("document.querySelector('#graph-drawing [tabindex=\"0\"][data-box]').focus()");
            (0..25).for_each(|_| browser.press("ArrowRight"));
            browser.press("Enter");
            browser.wait_for("document.querySelector('#graph-task').innerText.includes('It waits for 1 of 1 input.')");
            assert!(browser.text("#graph-task").contains("an output"), "{}", browser.text("#graph-task"));
            barrier.open();
            run.join().unwrap();
        });
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn a_page_that_stays_open_over_a_restart_shows_the_new_program() {
    in_turn("a_page_that_stays_open_over_a_restart_shows_the_new_program", |steps| {
        let first = dashboard::serve("127.0.0.1:0").unwrap();
        let mut browser = Browser::start(&first.url(), steps);
        history();
        browser.open("#graph");
        browser.wait_for("document.querySelectorAll('#graph-drawing [data-box]').length > 0");
        browser.run("window.isOld = true");
        let address = first.address();
        drop(first);
        let second = dashboard::serve(address.to_string()).unwrap();
        assert_eq!(second.address(), address);
        browser.wait_for("!window.isOld && document.getElementById('connection')?.dataset.state === 'live'");
        // The state of the page when the first dashboard was gone.
        assert!(browser.complaints().iter().all(|it| it.contains("ERR_")));
        browser.click("nav a[href='#log']");
        browser.wait_for("document.querySelectorAll('#log-table tbody tr').length === 1");
        assert!(browser.text("#log-table tbody").contains("dashboard started"), "{}", browser.text("#log-table"));
        assert_eq!(squares(3).compute_with("sync").unwrap(), 5);
        browser.click("nav a[href='#graph']");
        browser.wait_for("document.querySelectorAll('#graph-drawing [data-box]').length === 4");
        assert_eq!(browser.complaints(), Vec::<String>::new());
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn a_killed_worker_shows() {
    with_browser("a_killed_worker_shows", |_, browser| {
        browser.open("#workers");
        let run = thread::spawn(history);
        browser.wait_for("document.querySelectorAll('#workers-table [data-state=\"lost\"]').length >= 3");
        run.join().unwrap();
        let table = browser.text("#workers-table");
        assert!(table.contains("SIGABRT"), "{table}");
        let written =
            browser.run("[...document.querySelectorAll('#workers-table pre')].map((it) => it.textContent).join()");
        assert!(written.as_str().unwrap().contains("bad header in tile 17"), "{written}");
        browser.click("nav a[href='#log']");
        browser.wait_for("document.querySelector('#log-table').innerText.includes('worker lost')");
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn a_run_is_cancelled_with_the_token_and_not_without() {
    with_browser("a_run_is_cancelled_with_the_token_and_not_without", |dashboard, browser| {
        let barrier = Barrier::default();
        thread::scope(|scope| {
            let _open = barrier.opened_at_last();
            let run = scope.spawn(|| pipeline(&barrier).compute_with("threads").unwrap_err());
            browser.open("#status");
            browser.wait_for("document.querySelector('#progress .run')");
            assert_eq!(browser.run("document.querySelectorAll('[data-cancel]').length"), 0);
            for (token, said) in [("wrong", "not the token"), (dashboard.token(), "is being cancelled")] {
                browser.click("#token");
                browser.wait_for("document.activeElement.id === 'token-text'");
                picture(browser, "dialog-token");
                browser.write(token);
                browser.press("Enter");
                browser.wait_for("document.querySelector('#progress [data-cancel]')");
                browser.click("#progress [data-cancel]");
                browser.wait_for("document.querySelector('#ask-cancel').open");
                picture(browser, "dialog-cancel");
                browser.click("#ask-cancel [type=submit]");
                browser.wait_for(&format!("document.querySelector('#message').innerText.includes('{said}')"));
            }
            assert_eq!(run.join().unwrap().kind(), ErrorKind::Cancelled);
            browser.click("nav a[href='#runs']");
            browser.wait_for("document.querySelector('#runs-table [data-state=\"cancelled\"]')");
            assert!(!browser.run("location.href").as_str().unwrap().contains(dashboard.token()));
        });
        // The console of the browser reports the refused token.
        let complaints = browser.complaints();
        assert!(
            complaints.iter().all(|complaint| complaint.contains("401")) && complaints.len() == 1,
            "{complaints:?}"
        );
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn a_million_tasks_leave_the_page_responsive() {
    with_browser("a_million_tasks_leave_the_page_responsive", |_, browser| {
        let leaves: Vec<_> = (0..1_000_000_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
        let sum = |leaves: &[Delayed<u64>]| delayed(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&leaves.to_vec(),));
        let groups: Vec<_> = leaves.chunks(1_000).map(sum).collect();
        let plan =
            sprang::prepare(delayed(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&groups,)).name("all")).unwrap();
        for page in ["#status", "#graph", "#tasks"] {
            browser.open(page);
            let before = browser.load();
            thread::scope(|scope| {
                let run = scope
                    .spawn(|| (0..3).for_each(|_| assert_eq!(plan.compute_with("threads").unwrap(), 499_999_500_000)));
                browser.wait_for("document.title.includes('running') || document.querySelectorAll('#graph-drawing [data-box]').length > 0 \
                                  || document.querySelectorAll('#tasks-table td').length > 0");
                run.join().unwrap();
            });
            picture(browser, &format!("large-{}", &page[1..]));
            let after = browser.load();
            let (busy, num_updates) = (after.busy - before.busy, after.num_updates - before.num_updates);
            assert!(num_updates > 0, "{page}");
            let each = busy / num_updates as u32;
            // The time between two updates.
            assert!(each < Duration::from_millis(250), "{page}: {each:?} for each of {num_updates} updates");
            assert!(after.num_nodes < 50_000, "{page}: {} nodes", after.num_nodes);
        }
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn names_and_messages_with_markup_are_shown_as_text() {
    with_browser("names_and_messages_with_markup_are_shown_as_text", |_, browser| {
        let markup = "<img src=/x onerror=window.isRun=1><script>window.isRun=1</script>\u{202e}\u{1}";
        let fails = |text: String| Err::<(), _>(text);
        let failing = try_delayed(fails, (markup.to_owned(),)).name(markup);
        assert!(compute_each(&failing).unwrap().is_err());
        for (page, place) in [
            ("#status", "#progress"),
            ("#graph", "#graph-drawing"),
            ("#tasks", "#tasks-table"),
            ("#runs", "#runs-table"),
            ("#log", "#log-table"),
        ] {
            browser.open(page);
            browser.wait_for(&format!("document.querySelector('{place}').textContent.includes('<img src=/x')"));
            assert_eq!(
                browser.run("document.querySelectorAll('img:not([src*=icon]), main script').length"),
                0,
                "{page}"
            );
            assert_eq!(browser.run("window.isRun ?? 0"), 0, "{page}");
            let width = browser.run("document.documentElement.scrollWidth");
            assert!(width.as_u64().unwrap() <= 1600, "{page} is {width} wide");
        }
    });
}

#[test]
#[ignore = "needs Chromium: scripts/check-dashboard"]
fn the_example_fills_the_pages() {
    in_turn("the_example_fills_the_pages", |steps| {
        let of_tests = std::env::current_exe().unwrap();
        let program = of_tests.parent().unwrap().join("../examples/dashboard");
        let mut example = Command::new(program)
            .args(["9", "processes"])
            .env("SPRANG_PROCESSES__MEMORY_LIMIT", "1 GiB")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example has been built: scripts/check-dashboard sees to that");
        let mut lines = BufReader::new(example.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let url = first.split([' ', ';']).find(|word| word.starts_with("http")).unwrap();
        let mut browser = Browser::start(url, steps);
        browser.size(1180, 830);
        browser.theme("light");
        browser.open("#status");
        browser.run("(() => { const it = document.getElementById('window'); it.value = '5'; it.dispatchEvent(new Event('change')); })()");
        let ended = "document.querySelector('#tiles').innerText.match(/Runs done\\s+([0-9]+)/)[1] >= 8";
        browser.wait_for(&format!("{ended} && document.querySelectorAll('#running td').length > 8"));
        picture(&mut browser, "example");
        browser.click("nav a[href='#runs']");
        browser.wait_for("document.querySelectorAll('#runs-table a[download]').length >= 16");
        assert_eq!(browser.complaints(), Vec::<String>::new());
        assert!(example.wait().unwrap().success());
    });
}
