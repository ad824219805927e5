//! Calls of Simon's functions at one node, through the handle API.

use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::client::{Client, SHORT};
use super::failure::{Exit, Failure, printable};

/// The service at a node.
pub(crate) struct Simon<'a> {
    client: &'a Client,
    handle: String,
}

/// What a call gave.
pub(crate) enum Reply {
    /// JSON text.
    Value(String),
    /// A new object: its callback.
    Object(String),
    /// Nothing; the text says who is waited for.
    Waiting(String),
}

impl<'a> Simon<'a> {
    pub(crate) async fn select(client: &'a Client) -> Result<Simon<'a>, Failure> {
        let answer = client
            .put("", Bytes::from_static(b"{\"microservice\":\"Simon\"}"))
            .await?;
        let handle = answer.json()?;
        let handle = handle.as_str().ok_or_else(|| strange("its handle is not a text"))?;
        Ok(Simon {
            client,
            handle: handle.to_owned(),
        })
    }

    /// Calls a function; `parameters` is the JSON text of an object. A call may wait for `patience` at the node.
    pub(crate) async fn call(
        &self,
        function: &str,
        parameters: &str,
        object: Option<&str>,
        patience: Duration,
    ) -> Result<Reply, Failure> {
        let callback = object.map_or_else(String::new, |object| format!(",\"callback\":{}", Value::from(object)));
        let body = format!(
            "{{\"handle\":{},\"function\":{},\"parameters\":{parameters}{callback}}}",
            Value::from(self.handle.as_str()),
            Value::from(function)
        );
        // Large inputs take their time.
        let limit = SHORT + patience + Duration::from_secs(body.len() as u64 / 100_000);
        let answer = self.client.send(Method::POST, "", Some(body.into()), limit).await?;
        let answer = self.client.accepted(answer)?;
        match answer.status {
            201 => {
                let object = answer.json()?;
                let callback = object["callback"]
                    .as_str()
                    .ok_or_else(|| strange("an object without callback"))?;
                Ok(Reply::Object(callback.to_owned()))
            }
            204 => {
                let waiting = answer.headers.get("fdrtd-waiting").map(|value| value.as_bytes());
                let text = String::from_utf8_lossy(waiting.unwrap_or_default()).into_owned();
                Ok(Reply::Waiting(printable(&text)))
            }
            _ => Ok(Reply::Value(answer.text())),
        }
    }

    /// A function that gives a value.
    pub(crate) async fn value(&self, function: &str, parameters: &str, object: Option<&str>) -> Result<Value, Failure> {
        match self.call(function, parameters, object, Duration::ZERO).await? {
            Reply::Value(text) => serde_json::from_str(&text).map_err(|_| strange("a value that is not JSON")),
            Reply::Object(_) | Reply::Waiting(_) => Err(strange("something else than a value")),
        }
    }

    /// A function that makes a task: its callback.
    pub(crate) async fn make(&self, function: &str, parameters: &Value) -> Result<String, Failure> {
        // The node asks the other nodes first.
        let patience = Duration::from_secs(30);
        match self.call(function, &parameters.to_string(), None, patience).await? {
            Reply::Object(callback) => Ok(callback),
            Reply::Value(_) | Reply::Waiting(_) => Err(strange("no task")),
        }
    }

    /// Invitations to exactly this; waits so many seconds for one.
    pub(crate) async fn invitations(&self, wanted: &Value, seconds: u64) -> Result<Vec<Value>, Failure> {
        let mut parameters = wanted.clone();
        parameters["timeout"] = json!(seconds);
        let patience = Duration::from_secs(seconds);
        match self
            .call("invitations", &parameters.to_string(), None, patience)
            .await?
        {
            Reply::Value(text) => serde_json::from_str(&text).map_err(|_| strange("a list that is not JSON")),
            Reply::Object(_) | Reply::Waiting(_) => Ok(Vec::new()),
        }
    }
}

fn strange(what: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the node's answer cannot be used: {what}"),
        "your node",
        "run the same version of fdrtd everywhere",
        "NOT_A_NODE",
    )
}
