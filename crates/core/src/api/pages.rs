//! Should a list come in pages: which one is asked for next, and when there are no more. What a
//! page says of the next one is never an address to be asked: the question goes where the first one
//! went, with the parameters that the page named. So the credentials go to no other server, however
//! a page lies. Asks nobody for anything.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use url::{Url, form_urlencoded};

use crate::base_url::BaseUrl;
use crate::error::{Error, ErrorKind};
use crate::text::escape_foreign;
use crate::wire::multipart::Form;
use crate::wire::split::ListEnd;

/// So many pages in a row without an element, each of which names a next one, are no list. One or
/// two there may be: some servers leave rows out after they cut the pages.
const MAX_EMPTY: u32 = 10;
/// The longest parameters of a next page that are passed on, and how many of them.
const MAX_QUERY: usize = 2 * 1024;
const MAX_FIELDS: usize = 8;

/// A further page, by the parameters that ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Page {
    fields: Vec<(String, String)>,
}

impl Page {
    fn number(number: u64) -> Self {
        Self { fields: vec![("page".to_owned(), number.to_string())] }
    }

    /// Which number it has, if it has one.
    fn asked(&self) -> Option<u64> {
        let page = self.fields.iter().find(|(name, _)| name == "page");
        page.and_then(|(_, number)| number.parse().ok())
    }

    /// Adds its parameters to a form, but for those that the form has already: what is asked for is
    /// never the server's choice. The same parameters as the query of an address.
    pub(super) fn add_to(&self, form: &mut Form) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.fields {
            if !form.has(name) {
                form.add(name.as_str(), value.as_str());
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// The way from page to page.
pub(super) struct Pages<'a> {
    home: Option<&'a BaseUrl>,
    max: u32,
    /// Which page the next question is about; `None` for the first.
    page: Option<Page>,
    count: u32,
    empty: u32,
    /// Hashes of the pages that were asked for: no page is asked for twice.
    asked: HashSet<u64>,
}

impl<'a> Pages<'a> {
    /// Before the first page of a list of at most so many, from the server at this address.
    pub(super) fn new(home: Option<&'a BaseUrl>, max: u32) -> Self {
        Self { home, max, page: None, count: 1, empty: 0, asked: HashSet::new() }
    }

    /// The page to ask for; `None` for the first, which is asked for as if there were no pages.
    pub(super) fn page(&self) -> Option<&Page> {
        self.page.as_ref()
    }

    /// Its place in the order in which pages were asked for, from 1.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Looks at what a page said. Whether there is a further one, which is then the page to ask for.
    pub(super) fn follow(&mut self, end: &ListEnd) -> Result<bool, Error> {
        let endless = |message: String| Err(Error::new(ErrorKind::EndlessPages, message));
        if let (Some(asked), Some(came)) = (self.page.as_ref().and_then(Page::asked), end.page)
            && asked != came
        {
            return endless(format!("page {asked} was asked for and page {came} came"));
        }
        let Some(number) = end.next_page else { return Ok(false) };
        let next = match &end.next_url {
            Some(url) => self.named(url)?.unwrap_or_else(|| Page::number(number)),
            None => Page::number(number),
        };
        self.empty = if end.elements == 0 { self.empty + 1 } else { 0 };
        if self.empty >= MAX_EMPTY {
            return endless(format!("{MAX_EMPTY} in a row hold nothing"));
        }
        if self.count >= self.max {
            return endless(format!("there are more than {}", self.max));
        }
        // The first was asked for without a number, and is the first.
        let is_first = next == Page::number(1);
        if is_first || !self.asked.insert(hash_of(&next)) {
            return endless("a page names one that was there already as the next".to_owned());
        }
        self.count += 1;
        self.page = Some(next);
        Ok(true)
    }

    /// The page that an address names; `None` if it names none.
    fn named(&self, address: &str) -> Result<Option<Page>, Error> {
        let address = address.trim();
        let url = match (Url::parse(address), self.home) {
            (Ok(url), home) if home.is_none_or(|home| !home.is_home_of(&url)) => {
                let origin = url.origin();
                let origin = if origin.is_tuple() {
                    origin.ascii_serialization()
                } else {
                    url.scheme().to_owned()
                };
                return Err(elsewhere(&origin));
            }
            (Ok(url), _) => url,
            (Err(_), Some(home)) => relative(&home.join("/"), address, |url| home.is_home_of(url))?,
            (Err(_), None) => {
                relative("http://localhost/", address, |url| url.host_str() == Some("localhost"))?
            }
        };
        let fields: Vec<(String, String)> = url
            .query_pairs()
            .take(MAX_FIELDS + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if fields.len() > MAX_FIELDS || url.query().is_some_and(|query| query.len() > MAX_QUERY) {
            let message = "the address of the next page has too many parameters";
            return Err(Error::new(ErrorKind::EndlessPages, message));
        }
        Ok((!fields.is_empty()).then_some(Page { fields }))
    }
}

/// `/rooms?page=2` and the like; `//elsewhere/…` leads away from here, too.
fn relative(base: &str, address: &str, is_home: impl Fn(&Url) -> bool) -> Result<Url, Error> {
    let odd = || Error::new(ErrorKind::EndlessPages, "the address of the next page is none");
    let url = Url::parse(base).and_then(|base| base.join(address)).map_err(|_| odd())?;
    if is_home(&url) { Ok(url) } else { Err(elsewhere(&url.origin().ascii_serialization())) }
}

fn elsewhere(origin: &str) -> Error {
    Error::new(ErrorKind::PagesElsewhere, escape_foreign(origin, 200))
}

fn hash_of(page: &Page) -> u64 {
    let mut hasher = DefaultHasher::new();
    page.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::split::{RawElement, Splitter};

    fn end(body: &str) -> ListEnd {
        let mut splitter = Splitter::new(1024);
        splitter.feed(body.as_bytes(), &mut |_: RawElement<'_>| {}).unwrap();
        splitter.finish().unwrap()
    }

    /// A page with one row that names this as the next.
    fn naming(url: &str) -> ListEnd {
        end(&format!(r#"{{"success":true,"data":[{{"id":1}}],"next_page_url":"{url}"}}"#))
    }

    /// The fields that ask for the page behind this address.
    fn fields(home: &str, url: &str) -> Result<Vec<(String, String)>, ErrorKind> {
        let home: BaseUrl = home.parse().unwrap();
        let mut pages = Pages::new(Some(&home), 10);
        match pages.follow(&naming(url)) {
            Ok(_) => Ok(pages.page().unwrap().fields.clone()),
            Err(error) => Err(error.kind().clone()),
        }
    }

    #[test]
    fn a_next_page_is_known_by_its_parameters_wherever_on_this_server_it_lies() {
        let page = Ok(vec![("page".to_owned(), "2".to_owned())]);
        for url in [
            "https://api.example/imbachat/v2/627/get_rooms?page=2",
            // PHP behind a proxy that ends TLS.
            "http://api.example/?page=2",
            "https://API.example:443/x?page=2",
            "/imbachat/v2/627/get_rooms?page=2",
            "?page=2",
            "get_rooms?page=2#top",
            // Without parameters the number is all there is.
            "https://api.example/rooms/2",
        ] {
            assert_eq!(fields("https://api.example", url), page, "{url}");
        }
        let cursor = fields("https://api.example", "?cursor=eyJpZCI6MTV9&per%20page=15").unwrap();
        let cursor: Vec<_> = cursor.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(cursor, [("cursor", "eyJpZCI6MTV9"), ("per page", "15")]);
    }

    #[test]
    fn a_next_page_on_another_server_ends_the_list() {
        for url in [
            "https://elsewhere.example/?page=2",
            "//elsewhere.example/?page=2",
            "https://api.example:8443/?page=2",
            "https://api.example@elsewhere.example/?page=2",
            "ftp://api.example/?page=2",
            "javascript:page=2",
            "\\\\\\\\elsewhere.example/?page=2",
        ] {
            assert_eq!(fields("https://api.example", url), Err(ErrorKind::PagesElsewhere), "{url}");
        }
        let other = fields("http://127.0.0.1:6270", "http://127.0.0.1:6271/?page=2");
        assert_eq!(other, Err(ErrorKind::PagesElsewhere));
    }

    #[test]
    fn what_is_asked_for_is_not_the_servers_choice() {
        let mut form = Form::default();
        form.add("imba_id", "627");
        let fields = [("imba_id", "628"), ("page", "2"), ("a b", "&")];
        let page = Page { fields: fields.map(|(n, v)| (n.into(), v.into())).to_vec() };
        assert_eq!(page.add_to(&mut form), "page=2&a+b=%26");
        let body = String::from_utf8(form.encode().1.to_vec()).unwrap();
        assert!(body.contains("\r\n627\r\n") && !body.contains("628"), "{body}");
    }

    #[test]
    fn pages_that_go_round_skip_or_never_end_are_no_list() {
        let follow = |ends: &[ListEnd]| {
            let mut pages = Pages::new(None, 20);
            let all: Result<Vec<bool>, Error> = ends.iter().map(|end| pages.follow(end)).collect();
            all.map_err(|error| error.to_string())
        };
        let (two, three) = (naming("?page=2"), naming("?page=3"));
        assert_eq!(follow(&[two.clone(), three.clone()]), Ok(vec![true, true]));
        let said = |ends: &[ListEnd]| follow(ends).unwrap_err();
        assert!(said(&[two.clone(), three, two.clone()]).contains("was there already"));
        assert!(said(&[naming("?page=1")]).contains("was there already"));
        let fifth = end(r#"{"success":true,"data":[],"current_page":5,"last_page":5}"#);
        assert!(said(&[two, fifth]).contains("page 2 was asked for and page 5 came"));
        let empty: Vec<ListEnd> = (2..30)
            .map(|n| end(&format!(r#"{{"success":true,"data":[],"next_page_url":"?page={n}"}}"#)))
            .collect();
        assert!(said(&empty).contains("10 in a row hold nothing"));
        let many: Vec<ListEnd> = (2..30).map(|n| naming(&format!("?page={n}"))).collect();
        assert!(said(&many).contains("there are more than 20"));
        assert!(said(&[naming(&format!("?page=2&x={}", "y".repeat(3000)))]).contains("too many"));
    }
}
