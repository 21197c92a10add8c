// Calls the API as the React frontend does: names as they were typed, prices and balances taken for numbers.
const api = new URLSearchParams(location.search).get("api") ?? ""; // by itself, where the page is from
const headers = { "Content-Type": "application/json;charset=UTF-8" };
const part = (id) => document.getElementById(id);
let user;

async function call(path, options) {
  const response = await fetch(api + path, { headers, ...options });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

async function showUser(name) {
  ({ user } = await call(`/users/${name}`));
  part("greeting").textContent = `Hello, ${user.user_id}`;
  part("balance").textContent = user.data.balance;
  part("owned").textContent = user.data.product_ids.join(", ");
}

async function showProducts() {
  const { products } = await call("/products");
  part("products").replaceChildren(
    ...products.map(({ id, name, price }) => {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value: id });
      box.price = price;
      const label = document.createElement("label");
      label.append(box, ` ${name}, ${price}`);
      const item = document.createElement("li");
      item.append(label);
      return item;
    }),
  );
}

const chosen = () => [...document.querySelectorAll("#products :checked")];

function on(id, event, action) {
  part(id).addEventListener(event, async (happening) => {
    happening.preventDefault();
    part("error").textContent = "";
    try {
      await action();
    } catch (error) {
      part("error").textContent = error.message;
    }
  });
}

on("sign-in", "submit", async () => {
  await showUser(part("name").value);
  await showProducts();
  part("signed-in").hidden = false;
});

on("order", "change", () => {
  part("total").textContent = chosen().reduce((total, box) => total + box.price, 0);
});

on("order", "submit", async () => {
  const order = { items: chosen().map((box) => box.value), user_id: user.user_id };
  await call("/orders", { method: "POST", body: JSON.stringify({ order }) });
  await showUser(user.user_id);
});
