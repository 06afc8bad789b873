//! Hashes are argon2id of the written parameters, and their number is bounded even when requests are dropped.

use super::*;
use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicUsize, Ordering},
};

#[tokio::test]
async fn a_hash_verifies_its_password_only() {
    let passwords = Passwords::new(1, 0);
    let stored = passwords.hash(&"correct horse".into()).await.unwrap();
    assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    assert_eq!(passwords.verify(&"correct horse".into(), Some(&stored)).await.unwrap(), Verdict::Right);
    assert_eq!(passwords.verify(&"battery staple".into(), Some(&stored)).await.unwrap(), Verdict::Wrong);
    assert_eq!(passwords.verify(&"correct horse".into(), None).await.unwrap(), Verdict::Wrong);
}

#[test]
fn a_hash_of_other_parameters_is_outdated() {
    let salt = [7; SALT_BYTES];
    let hash = STANDARD_NO_PAD.encode(compute(b"correct horse", &salt, 64, 1, 1).unwrap());
    let stored = format!("$argon2id$v=19$m=64,t=1,p=1${}${hash}", STANDARD_NO_PAD.encode(salt));
    assert_eq!(verify(b"correct horse", &stored).unwrap(), Verdict::Outdated);
    assert_eq!(verify(b"wrong horse", &stored).unwrap(), Verdict::Wrong);
}

#[test]
fn hashes_are_those_of_the_reference_implementation() {
    // echo -n password | argon2 somesaltsomesalt -id -m 16 -t 2 -p 1 -l 32 -r, by the crate's own one-call form.
    let mut expected = [0; HASH_BYTES];
    let params = Params::new(1 << 10, 2, 1, Some(HASH_BYTES)).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(b"password", b"somesaltsomesalt", &mut expected).unwrap();
    assert_eq!(compute(b"password", b"somesaltsomesalt", 1 << 10, 2, 1).unwrap(), expected);
}

/// Work that counts how much of it runs at once, and goes on when told.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[tokio::test]
async fn a_hundred_at_once_run_two_wait_ten_and_the_rest_is_refused() {
    let (passwords, gate) = (Passwords::new(2, 10), Arc::new(Gate::default()));
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (passwords, gate) = (passwords.clone(), Arc::clone(&gate));
            tokio::spawn(async move { passwords.run(move || gate.pass()).await })
        })
        .collect();
    while gate.running.load(Ordering::SeqCst) < 2 || tasks.iter().filter(|task| task.is_finished()).count() < 88 {
        tokio::task::yield_now().await;
    }
    gate.open();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(error) => {
                assert_eq!((error.code, error.retry_after), (Code::Overloaded, Some(Duration::from_secs(1))));
                refused += 1;
            }
        }
    }
    assert_eq!((refused, gate.most.load(Ordering::SeqCst)), (88, 2));
}

#[tokio::test]
async fn a_dropped_request_keeps_its_place_until_its_hash_is_done() {
    let (passwords, gate) = (Passwords::new(1, 0), Arc::new(Gate::default()));
    let task = tokio::spawn({
        let (passwords, gate) = (passwords.clone(), Arc::clone(&gate));
        async move { passwords.run(move || gate.pass()).await }
    });
    while gate.running.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(passwords.run(|| ()).await.unwrap_err().code, Code::Overloaded);
    gate.open();
    while passwords.run(|| ()).await.is_err() {
        tokio::task::yield_now().await;
    }
}
