/* What the page says to the API, and what the answers mean. Money is counted in whole cents here, never in fractions. */

const PATIENCE = 15_000; // ms to wait for an answer
const ORDERS_AT_ONCE = 100; // the most that the API lists in one answer

/* The service has refused a request. Its code names the reason. */
export class Refused extends Error {
  constructor(code, status) {
    super(`${code} (${status})`);
    this.code = code;
    this.signedOut = status === 401 || status === 403;
  }
}

/* There was no answer, or one that does not tell what became of the request. */
export class Lost extends Error {}

async function request(path, options = {}) {
  let answer, body;
  try {
    answer = await fetch(`api/${path}`, { ...options, redirect: "manual", signal: AbortSignal.timeout(PATIENCE) });
    body = await answer.json();
  } catch {
    body = null;
  }
  // The API never redirects: a proxy sends people to where they sign in.
  if (answer?.type === "opaqueredirect") throw new Refused("unauthenticated", 401);
  if (!answer || answer.status >= 500 || (answer.ok && !body)) throw new Lost(`${path}: ${answer?.status}`);
  if (answer.ok) return body;
  throw new Refused(body?.error ?? (answer.status === 401 ? "unauthenticated" : "refused"), answer.status);
}

const cents = (amount) => Math.round(amount * 100);

/* The user whom a proxy names; null where people type their names. */
export const getIdentity = async () => (await request("identity")).user_id;

export async function getProducts() {
  const { products } = await request("products");
  return products.map(({ id, name, price }) => ({ id, name, cents: cents(price) }));
}

/* The balance of a user and what they own. A new user is created. */
export async function getUser(userId) {
  const { user } = await request(`users/${encodeURIComponent(userId)}`);
  return { userId: user.user_id, balance: cents(user.data.balance), owned: new Set(user.data.product_ids) };
}

function orderFrom({ order_id, data }) {
  return {
    id: order_id,
    lines: data.lines.map((line) => ({ id: line.id, name: line.name, cents: cents(line.price) })),
    cents: cents(data.total),
    placed: new Date(data.placed_at),
    cancelled: data.cancelled_at && new Date(data.cancelled_at),
  };
}

/* Some of a user's orders, the last one first: those before an order, or the last ones. */
async function ordersBefore(userId, before) {
  const query = new URLSearchParams({ user_id: userId, limit: ORDERS_AT_ONCE, ...(before && { before }) });
  return (await request(`orders?${query}`)).orders.map(orderFrom);
}

/* All orders of a user, the last one first. */
export async function getOrders(userId) {
  const orders = [];
  let more;
  do {
    more = await ordersBefore(userId, orders.at(-1)?.id);
    orders.push(...more);
  } while (more.length === ORDERS_AT_ONCE);
  return orders;
}

/* The order that has bought exactly these products; undefined if there is none. Nobody buys a product twice. */
export async function findOrder(userId, items) {
  const wanted = new Set(items);
  const same = ({ lines }) => lines.length === wanted.size && lines.every((line) => wanted.has(line.id));
  return (await ordersBefore(userId)).find((order) => !order.cancelled && same(order));
}

/* Order products, if they cost what the page shows. Returns the id of the order. */
export async function placeOrder(userId, items, total) {
  const order = { user_id: userId, items, expected_total: total / 100 };
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ order });
  return (await request("orders", { method: "POST", headers, body })).order.order_id;
}
