//! A browser for a test: started, asked, and ended.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::job::Job;

pub(crate) struct Browser {
    client: Client,
}

/// Runs the test, and ends the browser however that ends.
pub(crate) async fn in_browser<F: Future<Output = ()>>(test: impl FnOnce(Browser) -> F) {
    let (_driver, url) = start_driver().await;
    let options = json!({
        "goog:loggingPrefs": {"browser": "ALL"},
        // Without a sandbox, which root may not have, it opens this one page only.
        "goog:chromeOptions": {"args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]},
    });
    let Value::Object(capabilities) = options else { unreachable!("it is one") };
    let client = ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities)
        .connect(&url)
        .await
        .unwrap();
    let test = test(Browser { client: client.clone() });
    let result = AssertUnwindSafe(test).catch_unwind().await;
    client.close().await.unwrap();
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

async fn start_driver() -> (Child, String) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this test needs Chromium and its chromedriver (Debian: `apt-get install chromium chromium-driver`)");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            // It goes on to write, and must not find its output closed.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (driver, format!("http://127.0.0.1:{}", port.trim_end_matches('.')));
        }
    }
    panic!("chromedriver ended before it listened");
}

/// What `chromedriver` has besides the standard.
#[derive(Debug)]
struct Extension(&'static str, Value);

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}

impl Browser {
    pub(crate) async fn open(&self, job: &Job) {
        self.client.goto(&job.url("/")).await.unwrap();
        self.until("it is live", async || self.text("#link").await == "live").await;
    }

    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !condition().await {
            assert!(started.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn js(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector('{selector}').textContent");
        self.js(&script).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn number(&self, selector: &str) -> f64 {
        self.text(selector).await.replace(',', "").parse().unwrap()
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    pub(crate) async fn enter(&self, selector: &str, text: &str) {
        let field = self.client.find(Locator::Css(selector)).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// The rows of the first processor's table: by topic and partition, the text of each field.
    pub(crate) async fn rows(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let rows = self.js(
            "return Object.fromEntries([...document.querySelector('section').querySelectorAll('tbody')].map((row) => {
                const fields = [...row.querySelectorAll('[data-f]')].map((f) => [f.dataset.f, f.textContent]);
                const all = Object.fromEntries([['class', row.className], ...fields]);
                return [all.topic + ' ' + all.partition, all];
            }))",
        );
        serde_json::from_value(rows.await).unwrap()
    }

    /// Everything that the browser noted in its console.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Extension("se/log", json!({"type": "browser"}))).await;
        let entries = log.unwrap();
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    async fn cdp(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.client.issue_cmd(Extension("goog/cdp/execute", body)).await.unwrap()
    }

    pub(crate) async fn screenshots(&self) {
        for width in [390, 1280] {
            for scheme in ["light", "dark"] {
                self.screenshot("status", width, scheme).await;
            }
        }
    }

    /// Of the whole page, which must not be wider than the window.
    pub(crate) async fn screenshot(&self, name: &str, width: u32, scheme: &str) {
        let size =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.cdp("Emulation.setEmulatedMedia", features).await;
        let wide = self.js("return document.documentElement.scrollWidth").await;
        assert_eq!(wide, width, "it must not scroll to the side");
        let whole = json!({"captureBeyondViewport": true});
        let picture = self.cdp("Page.captureScreenshot", whole).await;
        let picture = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("admin_page");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), picture).unwrap();
    }
}
