// The form keeps the line that the address names, which the server never sees.
import { switchTheme } from "./theme.js";

const form = document.querySelector("form");
form.action += location.hash;
switchTheme();
