/**
 * The dashboard: one page without anything from elsewhere. It holds no data of its own and asks the admin API, with the token that its reader
 * gives where one is needed.
 */
export const DASHBOARD = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Titan</title>
<style>
  :root { color-scheme: light dark; --line: light-dark(#d8dce2, #343a44); --dim: light-dark(#5a6472, #98a2b3); --bad: light-dark(#b3261e, #ff8a80); --good: light-dark(#1b7f3b, #6fd08c); }
  body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
  h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
  table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--dim); font-weight: 500; }
  th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
  .dim { color: var(--dim); } .bad { color: var(--bad); } .good { color: var(--good); }
  form { margin-top: 1rem; } [hidden] { display: none; }
</style>
<h1>Titan <span id="version" class="dim"></span></h1>
<p id="summary" class="dim" role="status">Asking…</p>
<form id="token" hidden><label>Admin token <input type="password" name="token" autocomplete="off"></label> <button>Show</button></form>
<main id="main" hidden>
  <h2>Listeners</h2><table><thead><tr><th>Name<th>Address<th class="n">Connections</thead><tbody id="listeners"></tbody></table>
  <h2>Backends</h2><table><thead><tr><th>Upstream<th>Backend<th>State<th class="n">In flight<th class="n">Connections<th class="n">Waiting</thead><tbody id="backends"></tbody></table>
  <h2>Routes</h2><table><thead><tr><th>Route<th>Methods<th>Hosts<th>Path<th>To<th>Policies</thead><tbody id="routes"></tbody></table>
</main>
<script>
  const by = (id) => document.getElementById(id);
  let token = sessionStorage.getItem("titan-token") ?? "";
  by("token").onsubmit = (event) => {
    event.preventDefault();
    token = event.target.token.value;
    sessionStorage.setItem("titan-token", token);
    show();
  };
  async function ask(path) {
    const answer = await fetch(path, { headers: token ? { authorization: "Bearer " + token } : {} });
    if (answer.status === 401) { by("token").hidden = false; throw new Error("The admin token is needed."); }
    if (!answer.ok) throw new Error("The admin API answered " + answer.status + ".");
    by("token").hidden = true;
    return answer.json();
  }
  function rows(id, list) {
    by(id).replaceChildren(...list.map((cells) => {
      const row = document.createElement("tr");
      for (const cell of cells) {
        const td = document.createElement("td");
        if (typeof cell === "number") td.className = "n";
        if (cell?.state) { td.className = cell.state === "up" ? "good" : "bad"; td.textContent = cell.state; }
        else td.textContent = cell;
        row.append(td);
      }
      return row;
    }));
  }
  async function show() {
    try {
      const status = await ask("/_admin/status");
      by("version").textContent = status.version;
      by("summary").textContent = status.state + ", generation " + status.generation + ", up for " + Math.round(status.uptime_ms / 1000) + " s, " +
        status.workers + " workers" + (status.file ? ", " + status.file : "") + (status.warnings ? ", " + status.warnings + " warnings" : "");
      rows("listeners", status.listeners.map((one) => [one.name, one.address, one.connections]));
      rows("backends", status.upstreams.flatMap(({ name, backends }) =>
        backends.map((one) => [name, one.backend, { state: one.status }, one.in_flight, one.connections, one.waiting])));
      if (status.generation !== show.generation) {
        const routes = await ask("/_admin/routes");
        rows("routes", routes.slice(0, 500).map((one) =>
          [one.name, one.methods.join(", ") || "any", one.hosts.join(", ") || "any", one.path, one.to, one.policies.join(", ")]));
        show.generation = status.generation;
      }
      by("main").hidden = false;
    } catch (error) {
      by("summary").textContent = error.message;
      by("main").hidden = true;
    }
  }
  show();
  setInterval(() => { if (!document.hidden && by("token").hidden) show(); }, 2000);
</script>
</html>
`;

/** Nothing may be loaded, framed or sent anywhere else. */
export const DASHBOARD_HEADERS = {
  "content-security-policy":
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};
