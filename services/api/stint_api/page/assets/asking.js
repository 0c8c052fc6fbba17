// A question on a page of its own, for who has no scripts; whoever has them can answer it, too.
import { begin, connection } from "./shell.js";

begin();
connection.live();
