//! The first and the last steps: registration, login, membership of a room, logout.

use std::time::{SystemTime, UNIX_EPOCH};

use matrix_sdk::{
    Client, RoomState,
    ruma::{
        OwnedRoomId,
        api::{
            client::{
                account::register,
                room::create_room::v3::{Request as CreateRoom, RoomPreset},
                uiaa::{AuthData, AuthFlow, AuthType, Dummy},
            },
            error::Error,
        },
    },
};

use crate::{
    score::{Result, Score, check, same, until_true},
    user::{User, new_client},
};

const PASSWORD: &str = "correct horse battery staple";

/// Marks the names of this run, so that they are new to the server.
pub fn new_tag() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}

/// Registers through user-interactive auth: the first answer names the flow, the second request completes it.
pub async fn register(client: &Client, username: &str) -> Result<(), matrix_sdk::Error> {
    let mut request = register::v3::Request::new();
    request.username = Some(username.to_owned());
    request.password = Some(PASSWORD.to_owned());
    request.initial_device_display_name = Some("rust".to_owned());
    let Err(refusal) = client.matrix_auth().register(request.clone()).await else {
        return Err(matrix_sdk::Error::UnknownError("registration without auth was not refused".into()));
    };
    let Some(offer) = refusal.as_uiaa_response() else { return Err(refusal) };
    if !offer.flows.iter().any(|AuthFlow { stages, .. }| *stages == [AuthType::Dummy]) {
        return Err(matrix_sdk::Error::UnknownError(format!("no m.login.dummy in {:?}", offer.flows).into()));
    }
    let mut dummy = Dummy::new();
    dummy.session = offer.session.clone();
    request.auth = Some(AuthData::Dummy(dummy));
    client.matrix_auth().register(request).await?;
    Ok(())
}

/// The HTTP status and the Matrix error code of a request that must be refused.
fn refused<T>(answer: Result<T, Option<&Error>>, what: &str) -> Result<(u16, String)> {
    let Err(error) = answer else { return Err(format!("{what} was not refused").into()) };
    let error = error.ok_or_else(|| format!("{what} was refused, but by no error of Matrix"))?;
    let kind = error.error_kind().ok_or_else(|| format!("{what} was refused without errcode"))?;
    Ok((error.status_code.as_u16(), kind.errcode().to_string()))
}

/// Checks that the client's token is known to be dead.
async fn expect_dead(client: &Client, what: &str) -> Result {
    let answer = client.whoami().await;
    let code = refused(answer.as_ref().map_err(|error| error.as_client_api_error()), what)?;
    same(code, (401, "M_UNKNOWN_TOKEN".to_owned()), what)
}

/// Registers both, logs b in again by password; returns both users, syncing.
pub async fn sign_up(score: &mut Score, homeserver: &str, names: [String; 2]) -> Result<(User, User)> {
    let registered = score.step("register", async {
        let clients = [new_client(homeserver).await?, new_client(homeserver).await?];
        for (client, name) in clients.iter().zip(&names) {
            register(client, name).await?;
            same(Some(&*client.whoami().await?.user_id), client.user_id(), "whoami")?;
        }
        let answer = register(&new_client(homeserver).await?, &names[0]).await;
        let taken = refused(answer.as_ref().map_err(|error| error.as_client_api_error()), "a user name in use")?;
        same(taken, (400, "M_USER_IN_USE".to_owned()), "a user name in use")?;
        Ok(clients)
    });
    let [client_a, registered_b] = registered.await?;

    let logged_in = score.step("log in", async {
        let client = new_client(homeserver).await?;
        let answer = client.matrix_auth().login_username(&names[1], "wrong").send().await;
        let wrong = refused(answer.as_ref().map_err(|error| error.as_client_api_error()), "a wrong password")?;
        same(wrong, (403, "M_FORBIDDEN".to_owned()), "a wrong password")?;
        client.matrix_auth().login_username(&names[1], PASSWORD).initial_device_display_name("rust").send().await?;
        check(client.device_id() != registered_b.device_id(), || {
            "the login gave the device of the registration".into()
        })?;
        registered_b.matrix_auth().logout().await?;
        expect_dead(&registered_b, "the token of a logged-out device").await?;
        let (mut a, mut b) = (User::new(client_a)?, User::new(client)?);
        a.start().await?;
        b.start().await?;
        Ok((a, b))
    });
    logged_in.await
}

/// a makes a room and invites b, who joins; returns the room's id.
pub async fn meet(score: &mut Score, a: &User, b: &User, name: &str) -> Result<OwnedRoomId> {
    let created = score.step("create room", async {
        let mut request = CreateRoom::new();
        request.preset = Some(RoomPreset::PrivateChat);
        request.name = Some(name.to_owned());
        let room_id = a.client.create_room(request).await?.room_id().to_owned();
        until_true("the room in a's sync", || Ok(a.room(&room_id)?.name().as_deref() == Some(name))).await?;
        Ok(room_id)
    });
    let room_id = created.await?;

    score
        .step("invite", async {
            a.room(&room_id)?.invite_user_by_id(&b.id).await?;
            b.expect_state(&room_id, RoomState::Invited).await?;
            same(&b.room(&room_id)?.invite_details().await?.inviter_id, &a.id, "who invited b")
        })
        .await?;

    score
        .step("join", async {
            b.client.join_room_by_id(&room_id).await?;
            let members = [a.id.clone(), b.id.clone()];
            b.expect_members(&room_id, &members).await?;
            a.expect_members(&room_id, &members).await?;
            same(b.room(&room_id)?.name().as_deref(), Some(name), "the room's name as b sees it")
        })
        .await?;
    Ok(room_id)
}

/// Ends both sessions; each logout ends its own and no other.
pub async fn log_out(score: &mut Score, a: &mut User, b: &mut User) -> Result {
    score
        .step("log out", async {
            a.stop().await?;
            b.stop().await?;
            a.client.matrix_auth().logout().await?;
            expect_dead(&a.client, "a's token after logout").await?;
            same(b.client.whoami().await?.user_id, b.id.clone(), "whoami of b after a's logout")?;
            b.client.matrix_auth().logout().await?;
            expect_dead(&b.client, "b's token after logout").await
        })
        .await
}
