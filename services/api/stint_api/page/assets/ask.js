// Questions before something is done.
import { one, text } from "./dom.js";
import { fail } from "./shell.js";

/**
 * Ask before something is done. `work` is awaited while the dialog is open; what it rejects with is shown there.
 * Resolves to whether it was done, also if the dialog was closed meanwhile, when it is too late to take it back.
 */
export function ask({ title, sentence, go, more = [], ready = () => true, danger = true, work }) {
  const dialog = one("[data-dialog]"), button = one("[data-go]", dialog), error = one("[data-error]", dialog);
  text(one("#dialog-title"), title);
  text(one("[data-text]", dialog), sentence);
  one("[data-more]", dialog).replaceChildren(...more);
  text(button, go);
  button.className = danger ? "btn kill" : "btn go";
  error.hidden = true;
  const check = () => (button.disabled = !ready());
  check();
  dialog.oninput = check;
  return new Promise((resolve) => {
    let done = false, closed = false;
    button.onclick = async () => {
      button.disabled = true;
      done = work().then(() => true);
      try {
        await done;
        if (!closed) dialog.close();
      } catch (refused) {
        done = false;
        if (closed) return fail(refused.message);
        error.hidden = false;
        text(error, refused.message);
        check();
      }
    };
    one("form", dialog).onsubmit = (event) => { // Enter in a field would close the question and leave everything undone
      event.preventDefault();
      if (!danger) button.click();
    };
    one("[data-cancel]", dialog).onclick = () => dialog.close();
    dialog.onclose = () => {
      if (dialog.open) return; // the browser tells late of the question before this one
      closed = true;
      resolve(Promise.resolve(done).catch(() => false));
    };
    dialog.showModal();
    (more.length && !danger ? one("[data-more] input", dialog) : one("[data-cancel]", dialog)).focus();
  });
}
