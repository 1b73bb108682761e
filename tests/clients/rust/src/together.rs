//! Clients of different libraries in one encrypted room. This is a guest: it waits for the host's invite.

use matrix_sdk::ruma::{OwnedUserId, UserId};

use crate::{
    accounts::register,
    score::{Result, Score, bodies, until, until_true},
    user::{User, new_client},
};

const OTHERS: [&str; 2] = ["nio", "js"];

/// The guest's part of the scenario.
pub async fn together(score: &mut Score, homeserver: &str, tag: &str) -> Result {
    let step = score.step("register", async {
        let client = new_client(homeserver).await?;
        register(&client, &format!("rust-{tag}")).await?;
        let mut user = User::new(client)?;
        user.start().await?;
        Ok(user)
    });
    let user = step.await?;
    let others: Vec<OwnedUserId> = OTHERS
        .into_iter()
        .map(|name| UserId::parse(format!("@{name}-{tag}:{}", user.id.server_name())))
        .collect::<Result<_, _>>()?;

    let step = score.step("meet in an encrypted room", async {
        let invite = until("the invite", async || Ok(user.client.invited_rooms().pop()));
        let room_id = invite.await?.room_id().to_owned();
        user.client.join_room_by_id(&room_id).await?;
        user.expect_members(&room_id, &others).await?;
        until_true("the room's encryption", || Ok(user.room(&room_id)?.encryption_state().is_encrypted())).await?;
        Ok(room_id)
    });
    let room_id = step.await?;

    let step = score.step("encrypted messages from and to everybody", async {
        for (name, id) in OTHERS.iter().zip(&others) {
            let prefix = format!("from {name}");
            user.expect_to_hear(&room_id, id, &prefix, &bodies(&prefix, 10)).await?;
        }
        user.say(&room_id, &bodies("from rust", 10)).await?;
        Ok(())
    });
    step.await
}
