// Registration, login, and the end of a session.
import "./polyfill.mjs";
import { createClient } from "matrix-js-sdk";
import { check, refused, same } from "./harness.mjs";

const PASSWORD = "correct horse battery staple";

/** Registers through user-interactive auth: the first answer names the flow, the second request completes it. */
export async function register(baseUrl, username) {
  const client = createClient({ baseUrl });
  const request = { username, password: PASSWORD, initial_device_display_name: "js" };
  const challenge = await refused(client.registerRequest(request), "registration without auth");
  if (challenge.httpStatus !== 401) throw challenge;
  check(
    challenge.data.flows.some((flow) => flow.stages.join() === "m.login.dummy"),
    `no m.login.dummy in ${JSON.stringify(challenge.data.flows)}`,
  );
  return client.registerRequest({ ...request, auth: { type: "m.login.dummy", session: challenge.data.session } });
}

/** Logs in by password, the right one unless another is given. */
export function login(baseUrl, username, password = PASSWORD) {
  return createClient({ baseUrl }).loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: username },
    password,
    initial_device_display_name: "js",
  });
}

/** Makes a request that may want a proof of who asks: asked for one, it gives the password. */
export function proven(user) {
  return async (request) => {
    try {
      return await request(null);
    } catch (error) {
      if (error.httpStatus !== 401) throw error;
      const { session } = error.data;
      const identifier = { type: "m.id.user", user: user.id };
      return request({ type: "m.login.password", session, identifier, password: PASSWORD });
    }
  };
}

/** Checks that the token is known to be dead. */
export async function expectDeadToken(baseUrl, token, what) {
  const client = createClient({ baseUrl, accessToken: token });
  const error = await refused(client.whoami(), what);
  same([error.httpStatus, error.errcode], [401, "M_UNKNOWN_TOKEN"], what);
}
