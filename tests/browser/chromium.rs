//! A small client of the DevTools protocol, over a pipe: messages are JSON, with a zero byte after
//! each.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser with one page. It ends when this is dropped, which closes its pipe.
pub(crate) struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    session: String,
    last: u64,
    /// The only origin that the page may load from.
    home: String,
    complaints: Vec<String>,
    /// Updates that pages have received.
    num_updates: u64,
    /// Answers of the browser, for the watchdog.
    steps: Arc<AtomicU64>,
    _profile: tempfile::TempDir,
}

/// See [`Browser::load`].
pub(crate) struct Load {
    /// Processor time of the thread that runs the scripts of the page.
    pub(crate) busy: Duration,
    /// Nodes of the document.
    pub(crate) num_nodes: u64,
    pub(crate) num_updates: u64,
}

fn program() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "where programs are is not a setting")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    found.into_iter().find(|path| path.is_file()).expect("chromium is installed: scripts/check-dashboard sees to that")
}

impl Browser {
    /// Starts a browser that may load only URLs below `home`, and counts its answers in `steps`.
    pub(crate) fn start(home: &str, steps: &Arc<AtomicU64>) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is on the descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .arg(program())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-extensions", "--hide-scrollbars", "--mute-audio", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Browser {
            child,
            to,
            from,
            session: String::new(),
            last: 0,
            home: home.to_owned(),
            complaints: Vec::new(),
            num_updates: 0,
            steps: Arc::clone(steps),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        // Processor time, which other load on the machine does not change.
        browser.call("Performance.enable", json!({ "timeDomain": "threadTicks" }));
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol, and waits for its result.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let pipe = self.to.as_mut().unwrap();
        pipe.write_all(format!("{message}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut text = Vec::new();
            self.from.read_until(0, &mut text).unwrap();
            assert_eq!(text.pop(), Some(0), "the browser has ended");
            let message: Value = serde_json::from_slice(&text).unwrap();
            self.steps.fetch_add(1, Relaxed);
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.heard(&message);
        }
    }

    /// Records errors and forbidden requests.
    fn heard(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                self.complaints.push(parameters["exceptionDetails"]["exception"]["description"].to_string());
            }
            "Runtime.consoleAPICalled" if parameters["type"] == "error" || parameters["type"] == "warning" => {
                self.complaints.push(parameters["args"].to_string());
            }
            // Violations of the content policy are among these.
            "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
                let entry = &parameters["entry"];
                self.complaints.push(format!("{} at {}", entry["text"], entry["url"]));
            }
            "Network.eventSourceMessageReceived" => self.num_updates += 1,
            "Network.requestWillBeSent" => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with(&self.home) && url != "about:blank" {
                    self.complaints.push(format!("a request to {url}"));
                }
            }
            _ => {}
        }
    }

    /// What the pages have cost so far.
    pub(crate) fn load(&mut self) -> Load {
        let metrics = self.call("Performance.getMetrics", json!({}))["metrics"].clone();
        let metric = |name: &str| {
            let found = metrics.as_array().unwrap().iter().find(|metric| metric["name"] == name);
            found.unwrap()["value"].as_f64().unwrap()
        };
        Load {
            busy: Duration::from_secs_f64(metric("TaskDuration")),
            num_nodes: metric("Nodes") as u64,
            num_updates: self.num_updates,
        }
    }

    /// The errors of the page, and its requests to other origins, since the last call.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.run("0");
        std::mem::take(&mut self.complaints)
    }

    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sets the preferred colour scheme, light or dark.
    pub(crate) fn theme(&mut self, theme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Opens a page of the dashboard, and waits until it is live.
    pub(crate) fn open(&mut self, page: &str) {
        let url = format!("{}{page}", self.home);
        // Otherwise the browser only changes the fragment of the URL.
        self.call("Page.navigate", json!({ "url": "about:blank" }));
        self.call("Page.navigate", json!({ "url": url }));
        self.wait_for("document.getElementById('connection')?.dataset.state === 'live'");
    }

    /// The value of an expression in the page, once it is there.
    pub(crate) fn run(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true }),
        );
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let start = Instant::now();
        while self.run(&format!("Boolean({expression})")) != true {
            // During navigation a page has no document for a moment.
            std::thread::sleep(Duration::from_millis(10));
            assert!(start.elapsed() < Duration::from_secs(60), "never so: {expression}\n{:?}", self.complaints);
        }
    }

    /// The text of the first element that matches.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        self.run(&format!("document.querySelector({selector:?})?.innerText ?? ''")).as_str().unwrap().to_owned()
    }

    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" { "\r" } else { "" };
            let code = json!({ "Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40 });
            let event =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code[key], "text": text });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    pub(crate) fn click(&mut self, selector: &str) {
        self.run(&format!("document.querySelector({selector:?}).click()"));
    }

    /// Saves a picture of the page, down to a limit.
    pub(crate) fn save(&mut self, path: &Path) {
        let [width, height] =
            ["innerWidth", "Math.min(document.documentElement.scrollHeight, 2400)"].map(|it| self.run(it));
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let wanted = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let data = self.call("Page.captureScreenshot", wanted)["data"].clone();
        std::fs::write(path, decoded(data.as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.to.take());
        // The browser ends by itself when the pipe is closed.
        let _rest = self.from.read_to_end(&mut Vec::new());
        let _status = self.child.wait();
    }
}

/// Base64.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut num_bits) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|&digit| digit == byte)) {
        (bits, num_bits) = (bits << 6 | digit as u32, num_bits + 6);
        if num_bits >= 8 {
            num_bits -= 8;
            bytes.push((bits >> num_bits) as u8);
        }
    }
    bytes
}
