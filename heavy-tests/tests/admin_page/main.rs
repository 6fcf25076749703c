//! The page of the admin server, in a real browser: Chromium without a window, driven by its `chromedriver`.
//!
//! Screenshots go to `admin_page/` in Cargo's directory for temporary files of tests, to be looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod browser;
mod job;

use kasper::ProcessorState;

use browser::{Browser, in_browser};
use job::{Job, NAME, TOKEN};

#[tokio::test]
#[ignore = "needs chromium"]
async fn the_page_shows_what_the_status_says_while_it_changes() {
    in_browser(shows).await;
}

#[tokio::test]
#[ignore = "needs chromium"]
async fn commands_are_offered_to_those_who_know_the_token() {
    in_browser(commands).await;
}

#[tokio::test]
#[ignore = "needs chromium"]
async fn the_page_says_when_its_figures_are_old() {
    in_browser(grows_old).await;
}

async fn shows(browser: Browser) {
    let job = Job::start().await;
    browser.open(&job).await;
    assert_eq!(browser.number("dd[data-f=messages]").await, 0.0);
    let mut feeder = job.feeder();
    for _ in 0..300 {
        feeder.send(&[b'x'; 100]).await.unwrap();
    }
    browser
        .until("the numbers move", async || browser.number("dd[data-f=messages]").await > 0.0)
        .await;
    browser
        .until("one partition stalls", async || {
            browser.text("#trouble").await == "1 stalled, 1 failed"
                && browser.rows().await["in 1"]["state"] == "stalled"
        })
        .await;
    assert_eq!(browser.rows().await["in 1"]["class"], "trouble");
    // Soon nothing moves until the gate opens: both must say the same.
    browser
        .until("the page says what the status says", async || {
            let status = job.status().await;
            let (processor, shown) = (&status["processors"][0], browser.rows().await);
            for field in ["messages", "lag"] {
                if processor[field].as_f64()
                    != Some(browser.number(&format!("dd[data-f={field}]")).await)
                {
                    return false;
                }
            }
            let partitions = processor["partitions"].as_array().unwrap();
            assert_eq!(shown.len(), partitions.len());
            partitions.iter().all(|partition| {
                let row = &shown[&format!("in {}", partition["partition"])];
                let says = |field: &str| parsed(&row[field]) == partition[field].as_f64();
                ["next_offset", "end_offset", "lag", "in_flight", "rate"].into_iter().all(says)
            })
        })
        .await;
    // Texts from outside are texts.
    assert_eq!(browser.text("section [data-f=name]").await, NAME);
    assert!(browser.text("section:nth-of-type(2) [data-f=failure]").await.contains("<script>"));
    assert_eq!(
        browser.js("return document.querySelectorAll('main img, main script').length").await,
        0
    );
    assert_eq!(browser.js("return document.title").await, "⚠ Kasper");
    // Charts have a line.
    browser
        .until("the chart grows", async || {
            let line =
                browser.js("return document.querySelector('.lag .line').getAttribute('d')").await;
            line.as_str().is_some_and(|line| line.matches('L').count() >= 5)
        })
        .await;
    browser.screenshots().await;
    job.open_gate();
    browser.until("it goes on", async || browser.rows().await["in 1"]["state"] == "running").await;
    browser.until("no lag is left", async || browser.number("dd[data-f=lag]").await == 0.0).await;
    assert_eq!(browser.text("#trouble").await, "1 failed");
    assert_eq!(browser.number("dd[data-f=messages]").await, 300.0);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    job.end().await;
}

/// A number as the page writes it.
fn parsed(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

async fn commands(browser: Browser) {
    let job = Job::start().await;
    browser.open(&job).await;
    assert_eq!(browser.js("return document.querySelector('[data-f=buttons]').hidden").await, true);
    let enter = async |token: &str| {
        browser.click("#unlock").await;
        browser.enter("#token", token).await;
        browser.click("#form .buttons button:last-child").await;
        browser
            .until("buttons are offered", async || {
                browser.js("return document.querySelector('[data-f=buttons]').hidden").await
                    == false
            })
            .await;
    };
    enter("a wrong token").await;
    browser.click("[data-f=pause]").await;
    browser
        .until("it is refused", async || browser.text("[data-f=told]").await.contains("401"))
        .await;
    assert!(!job.handle.status().paused);
    browser
        .until("the token is asked for again", async || {
            browser.js("return document.querySelector('#unlock').hidden").await == false
        })
        .await;
    enter(TOKEN).await;
    browser.click("[data-f=pause]").await;
    browser.until("it is paused", async || browser.text("[data-f=pause]").await == "Resume").await;
    assert!(job.handle.status().paused);
    browser.screenshot("control", 1280, "light").await;
    browser.click("[data-f=pause]").await;
    browser.until("it goes on", async || browser.text("[data-f=pause]").await == "Pause").await;
    assert!(!job.handle.status().paused);
    job.open_gate();
    browser.click("[data-f=close]").await;
    assert_eq!(browser.text("[data-f=close]").await, "Really close?");
    assert_eq!(job.handle.status().state, ProcessorState::Running);
    browser.click("[data-f=close]").await;
    browser
        .until("it is closed", async || browser.text("section [data-f=state]").await == "closed")
        .await;
    // The browser itself notes the refusal.
    let complaints = browser.complaints().await;
    assert!(complaints.len() == 1 && complaints[0].contains("401"), "{complaints:?}");
    job.end().await;
}

async fn grows_old(browser: Browser) {
    let mut job = Job::start().await;
    browser.open(&job).await;
    let address = job.server.take().map(|server| server.local_addr()).unwrap();
    browser
        .until("it says so", async || browser.text("#link").await.starts_with("no answer since "))
        .await;
    assert_eq!(browser.js("return document.body.className").await, "stale");
    job.server = Some(job.admin().serve(address.to_string()).await.unwrap());
    browser.until("it is live again", async || browser.text("#link").await == "live").await;
    job.open_gate();
    job.end().await;
}
