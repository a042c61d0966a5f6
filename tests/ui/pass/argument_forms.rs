//! Owned arguments, `&str`, slices and references to any type, in any mixture.

#![deny(warnings)]
#![allow(unused_parens)]

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use xero::Client;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Scene {
    lights: Vec<u32>,
}

#[xero::service]
trait Forms {
    async fn none(&self);
    async fn owned(&self, number: u64, text: String, scene: Scene) -> u64;
    async fn text(&self, text: &str) -> usize;
    async fn bytes(&self, bytes: &[u8]) -> usize;
    async fn slice(&self, scenes: &[Scene]) -> usize;
    async fn reference(&self, scene: &Scene) -> u32;
    async fn array(&self, key: &[u8; 16], pair: (u8, [u16; 2])) -> u8;
    async fn nested(&self, map: &HashMap<String, Vec<Option<Scene>>>, tree: BTreeMap<u8, ()>) -> bool;
    async fn mixed(&self, first: &str, second: String, third: &[String], fourth: &Option<u8>) -> String;
    async fn parenthesized(&self, text: &(str), number: (u8)) -> (u8);
    async fn own_cow(&self, text: std::borrow::Cow<'static, str>) -> std::borrow::Cow<'static, str>;
    async fn anonymous(&self, text: &'_ str);
}

struct Studio;

#[xero::worker]
impl Forms for Studio {
    async fn none(&self) {}
    async fn owned(&self, number: u64, text: String, scene: Scene) -> u64 {
        number + text.len() as u64 + scene.lights.len() as u64
    }
    async fn text(&self, text: &str) -> usize {
        text.len()
    }
    async fn bytes(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
    async fn slice(&self, scenes: &[Scene]) -> usize {
        scenes.len()
    }
    async fn reference(&self, scene: &Scene) -> u32 {
        scene.lights.iter().sum()
    }
    async fn array(&self, key: &[u8; 16], mut pair: (u8, [u16; 2])) -> u8 {
        pair.0 += 1;
        key[0] + pair.0
    }
    async fn nested(&self, map: &HashMap<String, Vec<Option<Scene>>>, tree: BTreeMap<u8, ()>) -> bool {
        map.len() == tree.len()
    }
    async fn mixed(&self, first: &str, second: String, third: &[String], fourth: &Option<u8>) -> String {
        format!("{first}{second}{third:?}{fourth:?}")
    }
    async fn parenthesized(&self, text: &str, number: u8) -> u8 {
        text.len() as u8 + number
    }
    async fn own_cow(&self, text: std::borrow::Cow<'static, str>) -> std::borrow::Cow<'static, str> {
        text
    }
    async fn anonymous(&self, _text: &str) {}
}

#[allow(dead_code)]
async fn calls(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let forms = FormsClient::new(client);
    let scene = Scene { lights: vec![1, 2] };
    forms.none().await?;
    let _: u64 = forms.owned(1, "a".to_owned(), scene.clone()).await?;
    let _: usize = forms.text("a").await?;
    let _: usize = forms.text(&String::from("a")).await?;
    let _: usize = forms.bytes(b"abc").await?;
    let _: usize = forms.bytes(&vec![0; 7]).await?;
    let _: usize = forms.slice(&[scene.clone()]).await?;
    let _: u32 = forms.reference(&scene).await?;
    let _: u8 = forms.array(&[0; 16], (1, [2, 3])).await?;
    let _: bool = forms.nested(&HashMap::new(), BTreeMap::new()).await?;
    let _: String = forms.mixed("a", "b".to_owned(), &["c".to_owned()], &None).await?;
    let _: u8 = forms.parenthesized("a", 1).await?;
    let _ = forms.own_cow("a".into()).await?;
    forms.anonymous("a").await?;
    Ok(())
}

fn main() {}
