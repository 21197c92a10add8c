/* The page for employees: its views, the basket, and what becomes of an order. */

import { Lost, Refused, findOrder, getIdentity, getOrders, getProducts, getUser, placeOrder } from "./client.js";

const MAX_ITEMS = 100; // the most that an order may have
const RETRY_PAUSE = 2_000; // ms between two searches for an order whose answer was lost
// An order whose answer was lost may still be under way: the service waits for its database for some seconds.
const GIVE_UP = 30_000; // ms

const $ = (id) => document.getElementById(id);

/* ---- Words and numbers, as the reader's language has them ---- */

const amounts = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percents = new Intl.NumberFormat(undefined, { style: "percent" });
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

function listOf(lines, text = (line) => money(line.cents)) {
  const list = element("ul", undefined, "lines");
  for (const line of lines) {
    const item = element("li");
    item.append(element("span", line.name), element("span", text(line), "price"));
    list.append(item);
  }
  return list;
}

/* ---- What the page knows ---- */

let user = null; // {userId, balance, owned}
let products = new Map(); // by id, in the catalogue's sequence
let basket = []; // product ids
let ordering = false; // until the outcome of an order is known
let reads = 0; // how often the user and the catalogue were read
let applied = 0; // which of these reads is shown

const idsOf = (lines) => lines.map((line) => line.id);
const sum = (lines) => lines.reduce((cents, line) => cents + line.cents, 0);
const chosen = () => basket.map((id) => products.get(id));
const nameOf = (id) => products.get(id)?.name ?? id;

/* What outlives a reload, but not the tab: who is signed in, their basket, and an order whose outcome is not known. */
const kept = {
  read(key) {
    try {
      return JSON.parse(sessionStorage.getItem(`benefits.${key}`));
    } catch {
      return null; // the browser allows no storage
    }
  },
  write(key, value) {
    try {
      if (value === null) sessionStorage.removeItem(`benefits.${key}`);
      else sessionStorage.setItem(`benefits.${key}`, JSON.stringify(value));
    } catch {
      // Then nothing outlives a reload.
    }
  },
};

/* Take over what was read. What can still be bought stays in the basket. */
function apply(data, list, lines) {
  user = data;
  products = new Map(list.map((product) => [product.id, product]));
  basket = idsOf(lines).filter((id) => products.has(id) && !user.owned.has(id));
}

/* Read the user and the catalogue again, and show them. */
async function refresh() {
  const own = ++reads;
  const [data, list] = await Promise.all([getUser(user.userId), getProducts()]);
  if (own < applied) return; // a later read is shown already
  applied = own;
  const old = chosen();
  const isSame = JSON.stringify(list) === JSON.stringify([...products.values()]);
  apply(data, list, old);
  if (!isSame) showProducts();
  showBasket();
  showNews(old);
}

/* Say what has changed about the products that were in the basket. */
function showNews(old) {
  const about = (matches, words) => {
    const names = old.filter(matches).map((product) => product.name);
    return names.length ? [`${words}: ${lists.format(names)}.`] : [];
  };
  const news = [
    ...about(({ id }) => user.owned.has(id), "Bought elsewhere, and removed from the basket"),
    ...about(({ id }) => !products.has(id) && !user.owned.has(id), "No longer offered"),
    ...about(({ id, cents }) => products.has(id) && !user.owned.has(id) && products.get(id).cents !== cents, "New price"),
  ];
  if (news.length) $("note").textContent = news.join(" ");
}

/* ---- Views ---- */

const VIEWS = ["loading", "failed", "sign-in", "catalogue", "mine"];
const scrolled = {}; // how far each view was scrolled when it was left
let view = "loading";

const wanted = () => (location.hash === "#mine" ? "mine" : "catalogue");

function show(name) {
  scrolled[view] = scrollY;
  view = name;
  for (const other of VIEWS) $(`view-${other}`).hidden = other !== name;
  const isSignedIn = name === "catalogue" || name === "mine";
  $("pages").hidden = !isSignedIn;
  $("who").hidden = !isSignedIn;
  $("skip-to-basket").hidden = name !== "catalogue";
  for (const page of ["catalogue", "mine"]) {
    if (page === name) $(`to-${page}`).setAttribute("aria-current", "page");
    else $(`to-${page}`).removeAttribute("aria-current");
  }
  const title = $(`${name}-title`)?.textContent;
  document.title = title ? `${title} – Benefits` : "Benefits";
  scrollTo(0, scrolled[name] ?? 0);
  if (name === "mine") showMine();
}

/* A person has come to a view: a screen reader shall begin at its title. */
function arrive(name) {
  show(name);
  $(`${name}-title`).focus({ preventScroll: true });
}

function failedBy(error) {
  let [title, text] = ["Something went wrong", "It is not your fault. Try again; if that does not help, tell your administrator."];
  if (error instanceof Lost) {
    [title, text] = ["The service does not answer", "Check your connection, or try again in a moment."];
  } else if (error instanceof Refused && error.signedOut) {
    [title, text] = ["You are not signed in", "Your company's sign-in has not told this page who you are. Sign in there, and try again."];
  } else {
    console.error(error);
  }
  if (kept.read("pending")) text += " It is not known yet whether your last order arrived: do not order elsewhere.";
  $("failed-title").textContent = title;
  $("failed-text").textContent = text;
  arrive("failed");
}

/* ---- The catalogue ---- */

const cards = new Map(); // product id -> {item, product, searched, state, words}

/* What a person can do with a product, and the words for it. */
function stateOf(product, left) {
  if (user.owned.has(product.id)) return ["owned", "✓ Yours"];
  if (basket.includes(product.id)) return ["chosen", "In the basket"];
  if (product.cents > left) return ["dear", `You need ${money(product.cents - left)} more`];
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
  let found = 0;
  for (const card of cards.values()) {
    const matches = parts.every((part) => card.searched.includes(part));
    card.item.hidden = !matches;
    found += matches;
  }
  const all = several(cards.size, "benefit", "benefits");
  $("found").textContent = found === cards.size ? all : `${counts.format(found)} of ${all}`;
  if (cards.size === 0) $("found").textContent = "Nothing is offered at the moment.";
}

/* Show what depends on the balance and the basket. */
function showBasket() {
  const total = sum(chosen());
  const left = user.balance - total;
  for (const card of cards.values()) {
    const [state, words] = stateOf(card.product, left);
    if (card.state === state && card.words === words) continue;
    Object.assign(card, { state, words });
    const [, name, , mark, button] = card.item.children;
    const hides = state === "owned" || state === "dear";
    if (hides && button === document.activeElement) {
      name.tabIndex = -1; // the focus has to be somewhere
      name.focus();
    }
    card.item.dataset.state = state;
    mark.textContent = words;
    button.hidden = hides;
    button.textContent = state === "chosen" ? "Remove" : "Add";
    button.setAttribute("aria-label", `${button.textContent} ${name.textContent}`);
  }
  $("balance").textContent = money(user.balance);
  $("total").textContent = money(total);
  $("left").textContent = money(Math.abs(left));
  $("left-label").textContent = left < 0 ? "Too much by" : "Left";
  const share = total === 0 ? 0 : Math.min(1, total / Math.max(1, user.balance));
  $("bar-basket").style.setProperty("--share", share);
  $("bar").dataset.over = left < 0;
  $("bar").dataset.empty = user.balance === 0;
  const words = left < 0 ? `The basket costs ${money(-left)} more than the balance` : `The basket takes ${percents.format(share)} of the balance`;
  $("bar").setAttribute("aria-label", words);
  $("summary").textContent = basket.length ? several(basket.length, "benefit", "benefits") : "Nothing chosen yet";
  $("basket-lines").replaceChildren(...listOf(chosen()).children);
  $("order").classList.toggle("quiet", basket.length === 0);
  kept.write("basket", { userId: user.userId, lines: chosen() });
}

function choose(id) {
  if (ordering) return;
  const isNew = !basket.includes(id);
  if (isNew && basket.length === MAX_ITEMS) {
    $("note").textContent = `One order has at most ${MAX_ITEMS} benefits. Order these first.`;
    return;
  }
  basket = isNew ? [...basket, id] : basket.filter((other) => other !== id);
  $("note").textContent = "";
  showBasket();
  $("said").textContent = `${nameOf(id)} ${isNew ? "added" : "removed"}. ${$("left-label").textContent}: ${$("left").textContent}`;
}

/* ---- An order ---- */

const BACK = { close: "Back to the basket" };
const NOTHING = "Nothing was ordered.";

/* Show in a dialog what became of an order, or that it is not known yet. Without a label of its button it stays open. */
function answer(title, content, { close = "", mine = false } = {}) {
  const dialog = $("answer");
  $("answer-title").textContent = title;
  $("answer-text").replaceChildren(...content.map((part) => (typeof part === "string" ? element("p", part) : part)));
  $("answer-actions").hidden = !close;
  $("answer-close").textContent = close;
  $("answer-mine").hidden = !mine;
  dialog.dataset.waits = !close;
  dialog.dataset.back = close === BACK.close;
  if (dialog.open) dialog.close(); // so that a screen reader reads what has changed
  dialog.showModal();
  $("answer-title").focus();
}

async function ordered(id, lines) {
  const ids = idsOf(lines);
  kept.write("pending", null);
  basket = basket.filter((other) => !ids.includes(other));
  try {
    await refresh();
  } catch {
    // The order is placed, and that is what counts. So this is what the balance must be.
    const unpaid = lines.filter((line) => !user.owned.has(line.id));
    user = { ...user, balance: user.balance - sum(unpaid), owned: new Set([...user.owned, ...ids]) };
    showBasket();
  }
  const text = `This is order ${id}. It cost ${money(sum(lines))}, and ${money(user.balance)} is left.`;
  answer("Thank you, it is yours", [listOf(lines), text], { close: "Continue", mine: true });
  if (view === "mine") showMine();
}

/* Show why an order was refused, after reading the user and the catalogue again. */
async function refused(error, { userId, lines }) {
  kept.write("pending", null);
  if (error.code === "forbidden") return location.reload(); // another user has signed in
  const isRefreshed = await refresh().then(() => true, () => false);
  if (error.signedOut) {
    return answer("You are not signed in any more", [`${NOTHING} Sign in at your company again, and reload this page.`], BACK);
  }
  if (!isRefreshed) return answer("The order was not accepted", [`${NOTHING} Reload this page to see why.`], BACK);
  switch (error.code) {
    case "products_already_purchased": {
      const twin = await findOrder(userId, idsOf(lines)).catch(() => undefined);
      if (twin) {
        const text = element("p", `You bought this with order ${twin.id}, `);
        text.append(moment(twin.placed), ", perhaps in another tab. Nothing was ordered a second time.");
        return answer("You already have this", [text], { close: "Continue", mine: true });
      }
      const owned = lines.filter(({ id }) => user.owned.has(id)).map((line) => line.name);
      const rest = basket.length ? "The rest is still in your basket." : "";
      return answer("You already have some of this", [`${NOTHING} Bought before, perhaps in another tab: ${lists.format(owned)}. ${rest}`], BACK);
    }
    case "products_not_found": {
      const gone = lines.filter(({ id }) => !products.has(id)).map((line) => line.name);
      return answer("No longer offered", [`${NOTHING} No longer offered, and removed from the basket: ${lists.format(gone)}.`], BACK);
    }
    case "price_changed": {
      const changed = lines.filter(({ id, cents }) => products.has(id) && products.get(id).cents !== cents);
      const list = listOf(changed, ({ id, cents }) => `${money(cents)} → ${money(products.get(id).cents)}`);
      return answer("A price has changed", [`${NOTHING} Since you opened this page, the price has changed:`, list, `Your basket now costs ${money(sum(chosen()))}.`], BACK);
    }
    case "insufficient_balance":
      return answer("That is more than you have", [`${NOTHING} Your balance is ${money(user.balance)}, perhaps because of an order in another tab.`], BACK);
    default:
      return answer("The order was not accepted", [`${NOTHING} Please tell your administrator: ${error.code}.`], BACK);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/* Find out whether an order was placed whose answer was lost. The page accepts no other order before that is known. */
async function settleLostOrder(pending) {
  answer("Did your order arrive?", [
    "No answer has come. This page is finding out what became of your order.",
    "You need not do anything. Please do not order again elsewhere.",
  ]);
  const since = performance.now();
  let isSignedOut = false;
  for (;;) {
    const isLast = performance.now() - since > GIVE_UP;
    try {
      if (isLast) await refresh().catch(() => {});
      const order = await findOrder(pending.userId, idsOf(pending.lines));
      if (order) return ordered(order.id, order.lines);
      if (isLast) break;
    } catch (error) {
      if (!(error instanceof Lost || error instanceof Refused)) throw error;
      if (error.code === "forbidden") return location.reload(); // another user has signed in
      if (error.signedOut && !isSignedOut) {
        isSignedOut = true;
        answer("You are not signed in any more", [
          "It is not known yet whether your order arrived.",
          "Sign in at your company again, in another tab: this page goes on finding out.",
        ]);
      }
    }
    await pause(RETRY_PAUSE);
  }
  kept.write("pending", null);
  return answer("Your order was not found", ["So far nothing was ordered, and nothing was charged.", "Look at My benefits before you order again."], { ...BACK, mine: true });
}

/* Refuse new orders until the outcome of this one is known. */
async function settle(outcome) {
  ordering = true;
  try {
    await outcome;
  } catch (error) {
    $("answer").dataset.waits = false;
    $("answer").close();
    failedBy(error);
  } finally {
    ordering = false;
  }
}

function order() {
  if (ordering) return;
  $("note").textContent = basket.length ? "" : "Choose something first.";
  if (basket.length === 0) return;
  const pending = { userId: user.userId, lines: chosen() };
  kept.write("pending", pending); // also for a reload of the page meanwhile
  applied = ++reads; // a read that began before the order does not show its outcome
  answer("Ordering …", ["One moment, please."]);
  settle(
    placeOrder(pending.userId, idsOf(pending.lines), sum(pending.lines)).then(
      (id) => ordered(id, pending.lines),
      (error) => (error instanceof Refused ? refused(error, pending) : settleLostOrder(pending)),
    ),
  );
}

function answerClosed() {
  const dialog = $("answer");
  if (dialog.open) return; // it shows the next answer already
  if (dialog.dataset.waits === "true") {
    // The second Escape closes a dialog, whatever a page does about the first.
    dialog.showModal();
    $("answer-title").focus();
  } else if (dialog.dataset.back === "true" && view !== "catalogue") {
    location.hash = "#catalogue";
  } else if (document.activeElement === document.body || dialog.contains(document.activeElement)) {
    $(`${view}-title`).focus(); // nothing had the focus before
  }
}

/* ---- My benefits ---- */

let orderReads = 0; // how often the orders were read; the last one is shown
let bought = new Map(); // order lines by product id: a retired product has its name there

function orderCard(one) {
  const item = element("li", undefined, "card order");
  const head = element("div", undefined, "heading");
  head.append(element("h3", `Order ${one.id}`), moment(one.placed));
  const total = element("p", undefined, "total");
  total.append(element("span", "Total"), element("span", money(one.cents), "price"));
  item.append(head, listOf(one.lines), total);
  if (one.cancelled) {
    item.classList.add("cancelled");
    const mark = element("p", "Cancelled ", "mark");
    mark.append(moment(one.cancelled), ". Its total was credited.");
    head.after(mark);
  }
  return item;
}

function showOwned() {
  $("mine-balance").textContent = money(user.balance);
  $("mine-count").textContent = counts.format(user.owned.size);
  $("owned").replaceChildren(...[...user.owned].map((id) => element("li", bought.get(id)?.name ?? nameOf(id), "card")));
}

async function showMine() {
  const own = ++orderReads;
  $("of-whom").textContent = `${user.userId}, ${moments.format(new Date())}`;
  $("orders-note").textContent = $("orders").childElementCount ? "" : "Loading …";
  showOwned(); // at once, so that nothing moves when the orders arrive
  let orders;
  try {
    // An order under way reads the user itself, once its outcome is known.
    [orders] = await Promise.all([getOrders(user.userId), ordering || refresh()]);
  } catch (error) {
    if (own !== orderReads || view !== "mine") return;
    if (error instanceof Lost) $("orders-note").textContent = "Your orders can't be read at the moment. Try again later.";
    else failedBy(error);
    return;
  }
  if (own !== orderReads) return;
  const valid = orders.filter((one) => !one.cancelled);
  bought = new Map(valid.flatMap((one) => one.lines.map((line) => [line.id, line])));
  showOwned();
  $("mine-spent").textContent = money(sum(valid));
  $("orders").replaceChildren(...orders.map(orderCard));
  $("orders-note").textContent = orders.length ? "" : "You have not ordered anything yet.";
}

/* ---- Signing in ---- */

/* Read a user, also a new one, and open a view: by show, or by arrive. */
async function enter(userId, open) {
  const [data, list] = await Promise.all([getUser(userId), getProducts()]);
  const { userId: owner, lines } = kept.read("basket") ?? {};
  const old = owner === data.userId ? lines : [];
  apply(data, list, old);
  kept.write("user", user.userId);
  $("user-id").textContent = user.userId;
  showProducts();
  showBasket();
  open(wanted());
  const pending = kept.read("pending");
  if (pending?.userId === user.userId) settle(settleLostOrder(pending));
  else showNews(old);
}

async function start() {
  show("loading");
  try {
    const identity = await getIdentity();
    $("sign-out").hidden = identity !== null;
    const userId = identity ?? kept.read("user");
    if (userId === null) show("sign-in");
    else await enter(userId, show);
  } catch (error) {
    failedBy(error);
  }
}

let isSigningIn = false;

async function signIn(event) {
  event.preventDefault();
  if (isSigningIn) return;
  isSigningIn = true;
  $("name-error").textContent = "";
  $("name").removeAttribute("aria-invalid");
  try {
    await enter($("name").value, arrive);
  } catch (error) {
    const isName = error instanceof Refused && ["invalid_user_id", "not_found"].includes(error.code);
    if (isName || error instanceof Lost) {
      $("name-error").textContent = isName ? "That can't be a user name. It has 1 to 64 characters, and is not . or .." : "The service does not answer. Try again in a moment.";
      $("name").setAttribute("aria-invalid", isName);
      $("name").focus();
    } else {
      failedBy(error);
    }
  } finally {
    isSigningIn = false;
  }
}

function signOut() {
  for (const key of ["user", "basket", "pending"]) kept.write(key, null);
  history.replaceState(null, "", location.pathname);
  location.reload(); // so that nothing of the user is left
}

/* Another tab may have ordered, another day may have begun, and somebody else may have signed in. */
async function readAgain() {
  if (document.visibilityState !== "visible" || !user || ordering) return;
  if (view === "mine") {
    showMine();
    return;
  }
  const focused = document.activeElement?.dataset?.id;
  try {
    await refresh();
  } catch (error) {
    if (error instanceof Refused && error.signedOut && !ordering) location.reload();
  }
  if (focused && document.activeElement === document.body) {
    const button = cards.get(focused)?.item.querySelector("button:not([hidden])");
    (button ?? $("catalogue-title")).focus();
  }
}

/* ---- What people do ---- */

function skip(link, target) {
  $(link).addEventListener("click", (event) => {
    event.preventDefault(); // the address says which view is shown
    $(target).focus();
  });
}

skip("skip", "main");
skip("skip-to-basket", "summary");
$("sign-in").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", signOut);
$("try-again").addEventListener("click", () => location.reload());
$("print").addEventListener("click", () => print());
$("search").addEventListener("input", find);
$("sort").addEventListener("change", arrange);
$("products").addEventListener("click", ({ target }) => target.dataset.id && choose(target.dataset.id));
$("order").addEventListener("click", order);
$("answer-close").addEventListener("click", () => $("answer").close());
$("answer-mine").addEventListener("click", () => {
  $("answer").dataset.back = false;
  $("answer").close();
});
$("answer").addEventListener("close", answerClosed);
addEventListener("hashchange", () => user && arrive(wanted()));
document.addEventListener("visibilitychange", readAgain);
addEventListener("focus", readAgain);
addEventListener("pageshow", (event) => event.persisted && readAgain());

$("details").open = matchMedia("(min-width: 60rem)").matches;
start();
