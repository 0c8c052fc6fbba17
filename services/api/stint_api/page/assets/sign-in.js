// The form and the link keep the line that the address names, which the server does not see otherwise.
import { switchTheme } from "./theme.js";

const form = document.querySelector("form");
const link = form.querySelector("a");
form.action += location.hash;
if (link) link.href += encodeURIComponent(location.hash);
document.querySelector("[data-cookies]").hidden = navigator.cookieEnabled;
switchTheme();
