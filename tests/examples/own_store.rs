//! The store of the example `own_store` keeps the rules of `Store`.

use kasper::testkit::conformance::{Profile, check_store};

use crate::own_store_directory::{DirectoryStore, MAX_KEY_BYTES};

#[tokio::test]
async fn it_keeps_the_rules() {
    let directory = std::env::temp_dir().join(format!("kasper-own-store-{}", std::process::id()));
    let store = DirectoryStore::open(&directory).unwrap();
    let profile = Profile::default().max_key_bytes(MAX_KEY_BYTES).many_keys(2_000);
    check_store(&store, &profile).await;
    std::fs::remove_dir_all(&directory).unwrap();
}
