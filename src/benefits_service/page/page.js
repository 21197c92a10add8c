/* The page: what it shows, and what people do with it. */

import { Lost, Refused, findOrder, getIdentity, getOrders, getProducts, getUser, placeOrder } from "./client.js";

const MAX_ITEMS = 100; // the most that an order may have
const ASK_AGAIN = 2_000; // ms between two attempts to find out what became of an order
// An order whose answer was lost may still be under way: the service waits for its database for some seconds.
const GIVE_UP = 30_000; // ms

const $ = (id) => document.getElementById(id);

/* ---- Words and numbers, as the reader's language has them ---- */

const amounts = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const counts = new Intl.NumberFormat();
const byName = new Intl.Collator(undefined, { sensitivity: "base", numeric: true });
const lists = new Intl.ListFormat("en");

const money = (cents) => amounts.format(cents / 100);
const several = (count, one, many) => `${counts.format(count)} ${count === 1 ? one : many}`;
const searchable = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function moment(date) {
  const time = element("time", moments.format(date));
  time.dateTime = date.toISOString();
  return time;
}

function priced(name, cents) {
  const line = element("li");
  line.append(element("span", name), element("span", money(cents), "price"));
  return line;
}

/* ---- What the page knows ---- */

let user = null; // {userId, balance, owned}
let products = new Map(); // by id, in the catalogue's sequence
let basket = []; // product ids
let hasIdentity = false; // whether a proxy names the user
let ordering = false;

const sum = (ids) => ids.reduce((cents, id) => cents + products.get(id).cents, 0);
const nameOf = (id) => products.get(id)?.name ?? id;
const names = (ids) => lists.format(ids.map(nameOf));

/* What outlives a reload, but not the tab: who is signed in, their basket, and an order whose outcome is not known. */
const kept = {
  read: (key) => JSON.parse(sessionStorage.getItem(`benefits.${key}`)),
  write: (key, value) => sessionStorage.setItem(`benefits.${key}`, JSON.stringify(value)),
  forget: (key) => sessionStorage.removeItem(`benefits.${key}`),
};

function setProducts(list) {
  products = new Map(list.map((product) => [product.id, product]));
  const gone = basket.filter((id) => !products.has(id));
  basket = basket.filter((id) => products.has(id));
  return gone;
}

/* Take the user's data, and what they own out of the basket. Returns what has left it. */
function setUser(data) {
  user = data;
  const bought = basket.filter((id) => user.owned.has(id));
  basket = basket.filter((id) => !user.owned.has(id));
  return bought;
}

/* ---- Views ---- */

const VIEWS = ["loading", "failed", "sign-in", "catalogue", "mine"];
const scrolled = {}; // how far each view was scrolled when it was left
let view = "loading";

function show(name) {
  scrolled[view] = scrollY;
  view = name;
  for (const other of VIEWS) $(`view-${other}`).hidden = other !== name;
  const signedIn = name === "catalogue" || name === "mine";
  $("pages").hidden = !signedIn;
  $("who").hidden = !signedIn;
  for (const page of ["catalogue", "mine"]) {
    if (page === name) $(`to-${page}`).setAttribute("aria-current", "page");
    else $(`to-${page}`).removeAttribute("aria-current");
  }
  const title = $(`${name}-title`)?.textContent;
  document.title = title ? `${title} – Benefits` : "Benefits";
  scrollTo(0, scrolled[name] ?? 0);
}

/* A person has come to a view: a screen reader shall begin at its title. */
function arrive(name) {
  show(name);
  $(`${name}-title`).focus({ preventScroll: true });
}

const wanted = () => (location.hash === "#mine" ? "mine" : "catalogue");

function fail(title, text) {
  $("failed-title").textContent = title;
  $("failed-text").textContent = text;
  arrive("failed");
}

function failedBy(error) {
  if (error instanceof Lost) {
    fail("The service does not answer", "Check your connection, or try again in a moment. Nothing is lost.");
  } else if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
    fail("You are not signed in", "Your company's sign-in has not told this page who you are. Sign in there, and try again.");
  } else {
    console.error(error);
    fail("Something went wrong", "It is not your fault. Try again; if that does not help, tell whoever runs this page.");
  }
}

/* ---- The catalogue ---- */

const cards = new Map(); // product id -> {item, state, name, cents}
let listed = 0; // how many products match the search

/* What a person can do with a product, and the words for it. */
function stateOf(product, left) {
  if (user.owned.has(product.id)) return ["owned", "✓ Yours"];
  if (basket.includes(product.id)) return ["chosen", "In the basket"];
  if (product.cents > left) return ["dear", `${money(product.cents - left)} more than you have left`];
  return ["free", ""];
}

function showProducts() {
  cards.clear();
  let tint = 0;
  for (const product of products.values()) {
    const item = $("product").content.firstElementChild.cloneNode(true);
    const [letter, name, price, , button] = item.children;
    letter.textContent = [...product.name][0].toUpperCase();
    letter.classList.add(`tint-${tint++ % 6}`);
    name.textContent = product.name;
    price.textContent = money(product.cents);
    button.dataset.id = product.id;
    cards.set(product.id, { item, product, searched: searchable(product.name) });
  }
  arrange();
}

/* Put the products in the sequence that is chosen. */
function arrange() {
  const sequences = {
    name: (one, other) => byName.compare(one.product.name, other.product.name),
    cheap: (one, other) => one.product.cents - other.product.cents,
    dear: (one, other) => other.product.cents - one.product.cents,
  };
  const all = [...cards.values()];
  const sequence = sequences[$("sort").value];
  if (sequence) all.sort(sequence);
  $("products").replaceChildren(...all.map((card) => card.item));
  find();
}

function find() {
  const parts = searchable($("search").value).split(/\s+/u);
  listed = 0;
  for (const card of cards.values()) {
    const matches = parts.every((part) => card.searched.includes(part));
    card.item.hidden = !matches;
    listed += matches;
  }
  const all = several(cards.size, "benefit", "benefits");
  $("found").textContent = listed === cards.size ? all : `${counts.format(listed)} of ${all}`;
}

/* Show what depends on the balance and the basket. */
function showBasket() {
  const total = sum(basket);
  const left = user.balance - total;
  for (const card of cards.values()) {
    const [state, words] = stateOf(card.product, left);
    if (card.state === state && card.words === words) continue;
    Object.assign(card, { state, words });
    const [, name, , mark, button] = card.item.children;
    card.item.dataset.state = state;
    mark.textContent = words;
    button.hidden = state === "owned" || state === "dear";
    button.textContent = state === "chosen" ? "Remove" : "Add";
    button.setAttribute("aria-label", `${button.textContent} ${name.textContent}`);
  }
  $("balance").textContent = money(user.balance);
  $("total").textContent = money(total);
  $("left").textContent = money(Math.abs(left));
  $("left-label").textContent = left < 0 ? "Missing" : "Left";
  const share = total === 0 ? 0 : Math.min(1, total / Math.max(1, user.balance));
  $("bar-basket").style.setProperty("--share", share);
  $("bar").dataset.over = left < 0;
  $("bar").setAttribute("aria-label", `The basket takes ${Math.round(share * 100)} % of the balance`);
  $("summary").textContent = basket.length ? several(basket.length, "benefit", "benefits") : "Nothing chosen yet";
  $("basket-lines").replaceChildren(...basket.map((id) => priced(nameOf(id), products.get(id).cents)));
  $("order").setAttribute("aria-disabled", ordering);
  $("order").classList.toggle("quiet", basket.length === 0 || ordering);
  $("order").textContent = ordering ? "Ordering …" : "Order";
  kept.write("basket", { userId: user.userId, items: basket });
}

function choose(id) {
  const chosen = !basket.includes(id);
  if (chosen && basket.length === MAX_ITEMS) {
    $("note").textContent = `One order has at most ${MAX_ITEMS} benefits. Order these first.`;
    return;
  }
  basket = chosen ? [...basket, id] : basket.filter((other) => other !== id);
  $("note").textContent = "";
  showBasket();
  $("said").textContent = `${nameOf(id)} ${chosen ? "added" : "removed"}. ${$("left-label").textContent}: ${$("left").textContent}`;
}

/* ---- An order ---- */

/* Show the outcome of an order in a dialog; without a name of its button, it can't be closed yet. */
function answer(title, content, { close = "", mine = false } = {}) {
  const dialog = $("answer");
  $("answer-title").textContent = title;
  $("answer-text").replaceChildren(...content.map((part) => (typeof part === "string" ? element("p", part) : part)));
  $("answer-actions").hidden = !close;
  $("answer-close").textContent = close;
  $("answer-mine").hidden = !mine;
  dialog.dataset.waits = !close;
  if (!dialog.open) dialog.showModal();
  $("answer-title").focus();
}

async function refresh() {
  const [data, list] = await Promise.all([getUser(user.userId), getProducts()]);
  const same = JSON.stringify(list) === JSON.stringify([...products.values()]);
  const gone = same ? [] : setProducts(list);
  const bought = setUser(data);
  if (!same) showProducts();
  showBasket();
  if (view === "mine") showMine();
  return { bought, gone };
}

async function ordered(id, { items, lines }) {
  kept.forget("pending");
  basket = basket.filter((item) => !items.includes(item));
  try {
    await refresh();
  } catch {
    // The order is placed, and that is what counts. So this is what the balance must be.
    const balance = lines.reduce((left, line) => left - line.cents, user.balance);
    setUser({ ...user, balance, owned: new Set([...user.owned, ...items]) });
    showBasket();
  }
  const list = element("ul", undefined, "lines");
  list.append(...lines.map((line) => priced(line.name, line.cents)));
  const total = lines.reduce((cents, line) => cents + line.cents, 0);
  const text = `This is order ${id}. It cost ${money(total)}, and ${money(user.balance)} is left.`;
  answer("Thank you, it is yours", [list, text], { close: "Continue", mine: true });
}

/* Say why an order was refused, once the page has looked at what has changed. */
async function refused(error, { items, lines }) {
  kept.forget("pending");
  const before = new Map(lines.map((line) => [line.id, line]));
  const basketAgain = { close: "Back to the basket" };
  const nothing = "Nothing was ordered.";
  await refresh().catch(() => {}); // if that fails too, the reason of the refusal has to do
  switch (error.code) {
    case "products_already_purchased": {
      const twin = await findOrder(user.userId, items).catch(() => undefined);
      if (twin) {
        const text = element("p", `You bought this with order ${twin.id}, `);
        text.append(moment(twin.placed), ", perhaps in another tab. Nothing was ordered a second time.");
        return answer("You already have this", [text], { close: "Continue", mine: true });
      }
      const owned = items.filter((id) => user.owned.has(id));
      const others = basket.length ? "The rest is still in your basket." : "";
      const what = owned.length ? names(owned) : "something in this basket";
      return answer("You already have some of this", [`${nothing} You already own ${what}, perhaps from another tab. ${others}`], basketAgain);
    }
    case "products_not_found": {
      const gone = items.filter((id) => !products.has(id)).map((id) => before.get(id).name);
      const what = gone.length ? lists.format(gone) : "Something in this basket";
      return answer("No longer offered", [`${nothing} ${what} is not offered any more, and has left your basket.`], basketAgain);
    }
    case "price_changed": {
      const changes = element("ul", undefined, "lines");
      for (const id of items) {
        const [old, now] = [before.get(id).cents, products.get(id)?.cents ?? before.get(id).cents];
        if (old === now) continue;
        const line = element("li");
        line.append(element("span", nameOf(id)), element("span", `${money(old)} → ${money(now)}`, "price"));
        changes.append(line);
      }
      return answer("A price has changed", [`${nothing} The price has changed since you looked:`, changes, `Your basket now costs ${money(sum(basket))}.`], basketAgain);
    }
    case "insufficient_balance":
      return answer("That is more than you have", [`${nothing} Your balance is ${money(user.balance)}, perhaps because of an order in another tab.`], basketAgain);
    case "unauthenticated":
    case "forbidden":
      return answer("You are not signed in any more", [`${nothing} Sign in at your company again, and reload this page.`], basketAgain);
    default:
      return answer("The order was not accepted", [`${nothing} The service says: ${error.code}.`], basketAgain);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/* Find out what became of an order whose answer was lost. Nobody is asked to order again before that is known. */
async function findOut(pending) {
  answer("Did your order arrive?", [
    "No answer has come. This page is finding out what became of your order.",
    "You need not do anything. Please do not order again elsewhere.",
  ]);
  const since = Date.now();
  for (;;) {
    try {
      const order = await findOrder(user.userId, pending.items);
      if (order) return await ordered(order.id, { items: order.items, lines: order.lines });
      if (Date.now() - since > GIVE_UP) break;
    } catch (error) {
      if (error instanceof Refused) {
        return answer("You are not signed in any more", [
          "It is not known yet whether your order arrived.",
          "Sign in at your company again, and reload this page: it will go on finding out.",
        ]);
      }
      if (!(error instanceof Lost)) throw error;
    }
    await pause(ASK_AGAIN);
  }
  kept.forget("pending");
  await refresh().catch(() => {});
  answer("Your order did not arrive", ["Nothing was ordered, and nothing was charged. Your basket is as it was."], { close: "Back to the basket" });
}

/* Let nobody order until it is known what became of an order. */
async function settle(outcome) {
  ordering = true;
  showBasket();
  try {
    await outcome;
  } finally {
    ordering = false;
    showBasket();
  }
}

async function order() {
  if (ordering) return;
  $("note").textContent = basket.length ? "" : "Choose something first.";
  if (basket.length === 0) return;
  const pending = { userId: user.userId, items: [...basket], lines: basket.map((id) => products.get(id)) };
  kept.write("pending", pending); // also for the case that somebody reloads the page now
  await settle(
    placeOrder(user.userId, pending.items, sum(pending.items)).then(
      (id) => ordered(id, pending),
      (error) => {
        if (error instanceof Refused) return refused(error, pending);
        if (error instanceof Lost) return findOut(pending);
        throw error;
      },
    ),
  );
}

/* ---- My benefits ---- */

function orderCard(one) {
  const item = element("li", undefined, "card order");
  const head = element("div", undefined, "heading");
  const title = element("h3", `Order ${one.id}`);
  head.append(title, moment(one.placed));
  const list = element("ul", undefined, "lines");
  list.append(...one.lines.map((line) => priced(line.name, line.cents)));
  const total = element("p", undefined, "total");
  total.append(element("span", "Total"), element("span", money(one.cents), "price"));
  item.append(head, list, total);
  if (one.cancelled) {
    item.classList.add("cancelled");
    const mark = element("p", "Cancelled ", "mark");
    mark.append(moment(one.cancelled), ". Its total was credited.");
    head.after(mark);
  }
  return item;
}

async function showMine() {
  const { userId, balance, owned } = user;
  $("mine-balance").textContent = money(balance);
  $("mine-count").textContent = counts.format(owned.size);
  $("of-whom").textContent = `${userId}, ${moments.format(new Date())}`;
  const own = (named) => $("owned").replaceChildren(...[...owned].map((id) => element("li", named.get(id)?.name ?? nameOf(id), "card")));
  own(products); // at once, so that nothing moves when the orders arrive
  $("orders-note").textContent = $("orders").childElementCount ? "" : "Loading …";
  let orders;
  try {
    orders = await getOrders(userId);
  } catch (error) {
    if (!(error instanceof Lost)) return failedBy(error);
    $("orders-note").textContent = "Your orders can't be read at the moment. Try again later.";
    return undefined;
  }
  if (user?.userId !== userId) return undefined; // somebody else has signed in
  const bought = new Map(orders.filter((one) => !one.cancelled).flatMap((one) => one.lines.map((line) => [line.id, line])));
  $("mine-spent").textContent = money(orders.reduce((cents, one) => cents + (one.cancelled ? 0 : one.cents), 0));
  own(bought);
  $("orders").replaceChildren(...orders.map(orderCard));
  $("orders-note").textContent = orders.length ? "" : "You have not ordered anything yet.";
  return undefined;
}

/* ---- Signing in ---- */

async function enter(userId) {
  const stored = kept.read("basket");
  const [data, list] = await Promise.all([getUser(userId), getProducts()]);
  user = data;
  basket = [];
  setProducts(list);
  if (stored?.userId === user.userId) basket = stored.items.filter((id) => products.has(id) && !user.owned.has(id));
  kept.write("user", user.userId);
  $("user-id").textContent = user.userId;
  $("sign-out").hidden = hasIdentity;
  $("orders").replaceChildren();
  showProducts();
  showBasket();
  if (wanted() === "mine") showMine();
  const pending = kept.read("pending");
  if (pending?.userId === user.userId) settle(findOut(pending));
}

async function start() {
  show("loading");
  try {
    const identity = await getIdentity();
    hasIdentity = identity !== null;
    const userId = identity ?? kept.read("user");
    if (userId === null) return show("sign-in");
    await enter(userId);
    show(wanted());
  } catch (error) {
    failedBy(error);
  }
  return undefined;
}

async function signIn(event) {
  event.preventDefault();
  $("name-error").textContent = "";
  try {
    await enter($("name").value);
    arrive(wanted());
  } catch (error) {
    const words = {
      invalid_user_id: "That can't be a user name. It has 1 to 64 characters.",
      not_found: "That can't be a user name.",
    };
    const text = error instanceof Lost ? "The service does not answer. Try again in a moment." : words[error.code];
    if (!text) return failedBy(error);
    $("name-error").textContent = text;
    $("name").focus();
  }
  return undefined;
}

function signOut() {
  for (const key of ["user", "basket", "pending"]) kept.forget(key);
  user = null;
  $("name").value = "";
  history.replaceState(null, "", location.pathname);
  arrive("sign-in");
}

/* Another tab may have ordered, and another day may have begun. */
async function lookAgain() {
  if (document.visibilityState !== "visible" || !user || ordering || view === "failed") return;
  const { bought } = await refresh().catch(() => ({ bought: [] }));
  if (bought.length) $("note").textContent = `You have bought ${names(bought)} elsewhere, so it has left the basket.`;
}

/* ---- What people do ---- */

$("sign-in").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", signOut);
$("try-again").addEventListener("click", start);
$("print").addEventListener("click", () => print());
$("search").addEventListener("input", find);
$("sort").addEventListener("change", arrange);
$("products").addEventListener("click", ({ target }) => target.dataset.id && choose(target.dataset.id));
$("order").addEventListener("click", order);
$("answer").addEventListener("cancel", (event) => $("answer").dataset.waits === "true" && event.preventDefault());
$("answer-close").addEventListener("click", () => $("answer").close());
$("answer-mine").addEventListener("click", () => $("answer").close());
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown
  $("main").focus();
});
addEventListener("hashchange", () => {
  if (!user) return;
  if (wanted() === "mine") showMine();
  arrive(wanted());
});
document.addEventListener("visibilitychange", lookAgain);
addEventListener("pageshow", (event) => event.persisted && lookAgain());

$("details").open = matchMedia("(min-width: 60rem)").matches;
start();
