//! Push rules, to be read.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>

use axum::routing::MethodFilter;
use ruma_common::push::{AnyPushRuleRef, RuleKind, Ruleset};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Adds these endpoints.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Required, "/pushrules/", all)
        .json(MethodFilter::GET, Token::Required, "/pushrules", all)
        .json(MethodFilter::GET, Token::Required, "/pushrules/global/", global)
        .json(MethodFilter::GET, Token::Required, "/pushrules/global", global)
        .json(MethodFilter::GET, Token::Required, "/pushrules/global/{kind}/{rule_id}", one)
        .json(MethodFilter::GET, Token::Required, "/pushrules/global/{kind}/{rule_id}/enabled", enabled)
        .json(MethodFilter::GET, Token::Required, "/pushrules/global/{kind}/{rule_id}/actions", actions)
}

/// The scopes of rules; there is one.
#[derive(Deserialize)]
struct Scopes {
    global: Ruleset,
}

async fn stored(call: &Call) -> Result<Vec<u8>, ApiError> {
    let requester = call.context.requester()?;
    Ok(call.context.api.accounts.push_rules(requester.tenant, &requester.user_id).await?)
}

async fn ruleset(call: &Call) -> Result<Ruleset, ApiError> {
    let rules: Scopes = serde_json::from_slice(&stored(call).await?)
        .map_err(|error| ApiError::of_kind(polity_core::ErrorKind::Internal, error.to_string()))?;
    Ok(rules.global)
}

async fn all(call: Call) -> Result<Answer, ApiError> {
    Ok(Answer::Bytes(stored(&call).await?.into()))
}

async fn global(call: Call) -> Result<Answer, ApiError> {
    written(&ruleset(&call).await?)
}

fn written(value: &impl Serialize) -> Result<Answer, ApiError> {
    let value = serde_json::to_value(value)
        .map_err(|error| ApiError::of_kind(polity_core::ErrorKind::Internal, error.to_string()))?;
    Ok(value.into())
}

/// What an endpoint answers of the rule that the path names.
async fn of_rule(
    call: &Call,
    answer: impl FnOnce(AnyPushRuleRef<'_>) -> Result<Answer, ApiError>,
) -> Result<Answer, ApiError> {
    let rules = ruleset(call).await?;
    let rule = rules
        .get(RuleKind::from(call.param(0)?), call.param(1)?)
        .ok_or_else(|| ApiError::not_found("there is no such push rule"))?;
    answer(rule)
}

async fn one(call: Call) -> Result<Answer, ApiError> {
    of_rule(&call, |rule| match rule {
        AnyPushRuleRef::Override(rule) | AnyPushRuleRef::Underride(rule) => written(rule),
        AnyPushRuleRef::Content(rule) => written(rule),
        AnyPushRuleRef::Room(rule) => written(rule),
        AnyPushRuleRef::Sender(rule) => written(rule),
        _ => Err(ApiError::not_found("there is no such push rule")),
    })
    .await
}

async fn enabled(call: Call) -> Result<Answer, ApiError> {
    of_rule(&call, |rule| Ok(json!({"enabled": rule.enabled()}).into())).await
}

async fn actions(call: Call) -> Result<Answer, ApiError> {
    of_rule(&call, |rule| Ok(json!({"actions": rule.actions()}).into())).await
}
