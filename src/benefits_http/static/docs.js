// Starts Swagger UI. A file of its own: the Content-Security-Policy of the page forbids inline scripts.

const dark = matchMedia("(prefers-color-scheme: dark)");
const followColorScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followColorScheme);
followColorScheme();

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout", // the standalone layout injects inline styles
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});
