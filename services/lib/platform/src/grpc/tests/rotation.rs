//! A change of the authority while calls are made: no call is lost, and the old authority is believed no more at the end.

use super::*;

#[tokio::test]
async fn an_authority_is_changed_without_a_cut() {
    let (old, new) = (Authority::new(), Authority::new());
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let load = |folder| Identity::load(old.sign(folder, MEMBER_NAME, &[&old])).unwrap();
    let (serving, calling) = (load(&folder), load(&other));
    let server = serve(&serving, ANY, &Limits::default());
    let address = server.address.to_string();
    let way = Connector::new(Arc::clone(&calling)).to(&address);
    let held = kick(&way, Duration::from_secs(30));
    server.rooms.waiting.notified().await;

    // Both are believed, then the certificates change, then the old one is believed no more: one process after the other.
    let steps: [(&Authority, &[&Authority]); 3] = [(&old, &[&old, &new]), (&new, &[&old, &new]), (&new, &[&new])];
    for (signer, believed) in steps {
        for (identity, folder) in [(&serving, &folder), (&calling, &other)] {
            signer.sign(folder, MEMBER_NAME, believed);
            identity.look();
            // The open connection, and a new one.
            for way in [way.clone(), Connector::new(Arc::clone(&calling)).to(&address)] {
                assert_eq!(send(&way).await.code(), Code::NotFound);
            }
        }
    }
    server.rooms.gate.notify_waiters();
    assert_eq!(held.await.unwrap().code(), Code::NotFound);

    let (_late, late) = member(&old);
    assert_ne!(send(&Connector::new(late).to(&address)).await.code(), Code::NotFound);

    // What can't be used is not taken.
    fs::write(folder.path().join("key.pem"), "half a ke").unwrap();
    serving.look();
    assert!(serving.reload().is_err());
    assert_eq!(send(&Connector::new(calling).to(&address)).await.code(), Code::NotFound);
}
