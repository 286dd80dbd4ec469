//! What the target speaks: one method a request, no decisions.

use learnsync_sdk::{DeliveryError, ErrorKind, read_json, refusal};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// Speaks to one account. No `Debug`, because of the token.
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    token: String,
}

#[derive(Deserialize)]
struct Me {
    account: String,
}

#[derive(Deserialize)]
struct People {
    people: Vec<Map<String, Json>>,
}

#[derive(Deserialize)]
struct Facts {
    facts: Vec<Map<String, Json>>,
    next: Option<String>,
}

/// The answer to a write. A 2xx without it is somebody else's: a gateway, a login page.
#[derive(Deserialize)]
struct Written {
    key: String,
}

impl Client {
    pub(crate) fn new(http: reqwest::Client, url: Url, token: String) -> Self {
        Self { http, url, token }
    }

    /// `GET /me`.
    pub(crate) async fn account(&self) -> Result<String, DeliveryError> {
        let what = "the question whose token this is";
        let me: Me = read_json(self.send(Method::GET, &["me"], &[], None, what).await?, what).await?;
        Ok(me.account)
    }

    /// `GET /people?email=...`: the ids of those who really match.
    pub(crate) async fn people(&self, field: &str, value: &str) -> Result<Vec<String>, DeliveryError> {
        let what = "the look-up of a person";
        let response = self.send(Method::GET, &["people"], &[(field, value)], None, what).await?;
        let found: People = read_json(response, what).await?;
        let text = |person: &Map<String, Json>, name| Some(person.get(name)?.as_str()?.to_owned());
        // A server that passes over the query must not hand us a stranger.
        let is_meant =
            |person: &&Map<String, Json>| text(person, field).is_some_and(|held| held.to_lowercase() == value);
        Ok(found.people.iter().filter(is_meant).filter_map(|person| text(person, "id")).collect())
    }

    /// `PUT /people/{id}/facts/{key}`; answers the status.
    pub(crate) async fn put_fact(&self, person: &str, key: &str, body: &Json) -> Result<u16, DeliveryError> {
        let path = ["people", person, "facts", key];
        let response = self.send(Method::PUT, &path, &[], Some(body), key).await.map_err(unmatched)?;
        written(response, key).await
    }

    /// `DELETE /people/{id}/facts/{key}`; answers the status, or none when there is no such fact.
    pub(crate) async fn delete_fact(&self, person: &str, key: &str) -> Result<Option<u16>, DeliveryError> {
        match self.send(Method::DELETE, &["people", person, "facts", key], &[], None, key).await {
            Ok(response) => Ok(Some(written(response, key).await?)),
            Err(error) if is_missing(&error, "no_such_fact") => Ok(None),
            Err(error) => Err(unmatched(error)),
        }
    }

    /// `GET /people/{id}/facts/{key}`; none when there is no such fact.
    pub(crate) async fn fact(&self, person: &str, key: &str) -> Result<Option<Map<String, Json>>, DeliveryError> {
        match self.send(Method::GET, &["people", person, "facts", key], &[], None, key).await {
            Ok(response) => Ok(Some(read_json(response, key).await?)),
            Err(error) if is_missing(&error, "no_such_fact") => Ok(None),
            Err(error) => Err(unmatched(error)),
        }
    }

    /// `GET /facts?after=...`: a page of everybody's facts, and what asks for the next one.
    pub(crate) async fn facts(
        &self,
        after: Option<&str>,
    ) -> Result<(Vec<Map<String, Json>>, Option<String>), DeliveryError> {
        let what = "the list of facts";
        let query: Vec<(&str, &str)> = after.map(|after| ("after", after)).into_iter().collect();
        let page: Facts = read_json(self.send(Method::GET, &["facts"], &query, None, what).await?, what).await?;
        Ok((page.facts, page.next))
    }

    /// One request, one answer: who sends it again, and when, is the daemon's to decide.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Json>,
        what: &str,
    ) -> Result<Response, DeliveryError> {
        let mut url = self.url.clone();
        // Part by part: a slash in a mark must not become one of the path.
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(path);
        let mut request = self.http.request(method, url).bearer_auth(&self.token).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| DeliveryError::from_transport(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response, what).await) }
    }
}

async fn written(response: Response, key: &str) -> Result<u16, DeliveryError> {
    let status = response.status().as_u16();
    let written: Written = read_json(response, key).await?;
    if written.key == key {
        return Ok(status);
    }
    Err(DeliveryError::new(ErrorKind::Ambiguous, format!("the answer to {key} is about another key")))
}

/// A 404 of the target itself; one of a gateway has other words, and says nothing about facts.
fn is_missing(error: &DeliveryError, what: &str) -> bool {
    error.status == Some(404) && error.message.contains(what)
}

fn unmatched(error: DeliveryError) -> DeliveryError {
    match is_missing(&error, "no_such_person") {
        true => DeliveryError { kind: ErrorKind::Unmatched, ..error },
        false => error,
    }
}
