// The form of a policy: what comes of it is shown while it is written, and what was typed is not left by mistake. Without
// this the button "Preview" does the same.
const form = document.querySelector("#policy_form");
const pause = 600;
let waiting = 0;
let asked = null;
let typed = false;

async function refresh() {
  asked?.abort();
  asked = new AbortController();
  const sent = new FormData(form);
  sent.set("_preview", "1");
  try {
    const answer = await fetch(form.action, { method: "POST", body: sent, signal: asked.signal });
    if (answer.status !== 200 && answer.status !== 422) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.querySelector("#cp-preview");
    if (found) document.querySelector("#cp-preview").replaceChildren(...found.childNodes);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

if (form) {
  form.addEventListener("input", () => {
    typed = true;
    clearTimeout(waiting);
    waiting = setTimeout(refresh, pause);
  });
  window.addEventListener("beforeunload", (event) => {
    if (typed) event.preventDefault();
  });
  form.addEventListener("submit", () => {
    typed = false;
    clearTimeout(waiting);
    asked?.abort();
  });
}
