// Cross-signing keys: made, seen by others, and replaced.
import { proven } from "./accounts.mjs";
import { check, step, until } from "./harness.mjs";

/** Whether `user` sees the device of `owner` as signed by its owner. */
async function seesSigned(user, owner) {
  const crypto = user.client.getCrypto();
  await crypto.getUserDeviceInfo([owner.id], true);
  return (await crypto.getDeviceVerificationStatus(owner.id, owner.device))?.signedByOwner;
}

export async function crossSigning({ a, b }) {
  const crypto = a.client.getCrypto();

  await step("cross-signing", async () => {
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: proven(a) });
    check(await crypto.isCrossSigningReady(), "a's cross-signing is not ready");
    check(await crypto.userHasCrossSigningKeys(a.id, true), "the server has no keys of a");
    await until("a's device to be signed, as a sees it", () => seesSigned(a, a));
    await until("a's device to be signed, as b sees it", () => seesSigned(b, a));
    check(await b.client.getCrypto().userHasCrossSigningKeys(a.id, true), "b gets no keys of a");
  });

  await step("cross-signing keys replaced", async () => {
    const before = await crypto.getCrossSigningKeyId();
    await crypto.bootstrapCrossSigning({ setupNewCrossSigning: true, authUploadDeviceSigningKeys: proven(a) });
    check((await crypto.getCrossSigningKeyId()) !== before, "the keys are the same");
    await until("a's device to be signed again, as b sees it", () => seesSigned(b, a));
  });
}
